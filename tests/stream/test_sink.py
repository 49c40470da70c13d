from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from contract.datatypes import DataType
from contract.delivery import Gap
from contract.sparkplug import BD_SEQ, Metric, Quality
from db import migrate, roles
from stack import Timescale
from stream.connection import check_tables
from stream.errors import FatalError, StopRequested
from stream.ingest.batch import Batch, series_of_readings
from stream.ingest.series import SeriesDictionary
from stream.ingest.sink import BatchKey
from stream.ingest.writer import Writer, retrying
from stream.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stream.conftest import Database

    Write = Callable[..., None]
    Make = Callable[..., Any]

NOW = 1_700_000_000_000
QUERY = UUID(int=1)
NOW_AT = datetime.fromtimestamp(NOW / 1000, UTC)


@pytest.fixture
def writer(migrated: Database) -> Iterator[Writer]:
    writer = Writer(migrated.writer, threading.Event())
    yield writer
    writer.close()


@pytest.fixture
def write(writer: Writer, table_of: Callable[..., object]) -> Callable[..., None]:
    """Writes records as batch `n`."""

    def batch(n: int, *records: object, query: UUID = QUERY) -> None:
        writer.write(BatchKey(query, n), Batch(table_of(*records)))

    return batch


def bd_seq(number: int) -> Metric:
    return Metric(BD_SEQ, DataType.INT64, number, NOW)


def test_readings_texts_and_ledger_stand_in_one_commit(migrated: Database, write: Write, payload_record: Make) -> None:
    bad = Metric("bad", DataType.DOUBLE, None, NOW, quality=Quality.BAD)
    write(
        0,
        payload_record({"b": 2.5, "a": 1.0, "state": "an ä"}, metrics=[bad], offset=7, sampled_at_ms=NOW - 1),
        payload_record({"a": 1.5}, offset=8, sampled_at_ms=NOW, historical=True),
    )
    assert migrated.rows(
        "select metric, value, quality, sampled_at from reading join series using (series_id) "
        "order by metric, sampled_at"
    ) == [
        ("a", 1.0, 192, NOW_AT - timedelta(milliseconds=1)),
        ("a", 1.5, 192, NOW_AT),
        ("b", 2.5, 192, NOW_AT - timedelta(milliseconds=1)),
        ("bad", None, 0, NOW_AT),
    ]
    assert migrated.rows(
        "select group_id, node_id, device_id, metric, kind, datatype, value from reading_text "
        "join series using (series_id)"
    ) == [("g", "n", "d", "state", "text", 12, "an ä")]
    assert migrated.rows(
        "select query_id, batch_id, offsets, reading_rows, text_rows, duplicate_rows, dead_letter_rows "
        "from ingest_batch"
    ) == [(str(QUERY), 0, {"headwater.payloads": {"0": 9}}, 4, 1, 0, 0)]


def test_latency_is_of_live_readings_only(migrated: Database, write: Write, payload_record: Make) -> None:
    now = time.time_ns() // 1_000_000
    live = payload_record({"a": 1.0}, sampled_at_ms=now - 2000, received_at_ms=now)
    late = payload_record({"b": 1.0}, sampled_at_ms=now - 3_600_000, received_at_ms=now, historical=True)
    write(0, live, late)
    write(1, late)
    (first, second) = migrated.rows("select latency_p50_ms, latency_max_ms from ingest_batch order by batch_id")
    assert 2000 <= first[0] == first[1] < 60_000
    assert second == (None, None)


def test_the_same_batch_again_is_skipped(migrated: Database, write: Write, payload_record: Make) -> None:
    write(0, payload_record({"a": 1.0}))
    ledger = migrated.rows("select * from ingest_batch")
    write(0, payload_record({"a": 1.0}))
    assert migrated.rows("select * from ingest_batch") == ledger
    assert migrated.one("select count(*) from reading") == 1


def test_the_same_number_with_other_offsets_is_stored(migrated: Database, write: Write, payload_record: Make) -> None:
    write(0, payload_record({"a": 1.0}, offset=0))
    write(0, payload_record({"a": 1.0}, offset=0), payload_record({"a": 2.0}, offset=1, sampled_at_ms=NOW + 1))
    assert migrated.rows("select offsets, reading_rows, duplicate_rows from ingest_batch") == [
        ({"headwater.payloads": {"0": 2}}, 2, 1)
    ]


def test_what_was_delivered_before_is_counted_and_not_stored_again(
    migrated: Database, write: Write, payload_record: Make
) -> None:
    first = payload_record({"a": 1.0, "state": "x"}, offset=0)
    again = payload_record({"a": 9.0, "state": "y"}, offset=1)
    new = payload_record({"a": 2.0, "state": "z"}, offset=2, sampled_at_ms=NOW + 1)
    write(0, first, again)
    write(1, again, new)
    write(0, first, again, new, query=uuid4())
    assert [row[0] for row in migrated.rows("select value from reading order by sampled_at")] == [1.0, 2.0]
    assert [row[0] for row in migrated.rows("select value from reading_text order by sampled_at")] == ["x", "z"]
    assert migrated.rows("select reading_rows, text_rows, duplicate_rows from ingest_batch order by committed_at") == [
        (1, 1, 2),
        (1, 1, 2),
        (0, 0, 6),
    ]


def test_dead_letters_are_stored_once(migrated: Database, write: Write, payload_record: Make) -> None:
    poison = payload_record(payload=b"\xff\0", offset=5)
    half = payload_record({"good": 1.0, "nan": float("nan")}, offset=6)
    write(0, poison, half)
    write(1, poison, half)
    assert migrated.rows(
        "select kafka_topic, kafka_partition, kafka_offset, item, mqtt_topic, metric, received_at from dead_letter "
        "order by kafka_offset"
    ) == [
        ("headwater.payloads", 0, 5, -1, "spBv1.0/g/DDATA/n/d", None, NOW_AT),
        ("headwater.payloads", 0, 6, 1, "spBv1.0/g/DDATA/n/d", "nan", NOW_AT),
    ]
    assert bytes(migrated.one("select payload from dead_letter where item = -1")) == b"\xff\0"
    assert migrated.rows("select reading_rows, dead_letter_rows from ingest_batch order by batch_id") == [
        (1, 2),
        (0, 0),
    ]


def test_births_bring_nodes_units_and_status_and_deaths_take_them(
    migrated: Database, write: Write, payload_record: Make
) -> None:
    level = Metric("level", DataType.DOUBLE, 1.0, NOW, unit="m")
    write(
        0,
        payload_record(kind="NBIRTH", metrics=[bd_seq(1)], offset=0),
        payload_record(kind="DBIRTH", metrics=[level], offset=1),
        payload_record({"level": 2.0}, offset=2, received_at_ms=NOW + 500),
    )
    assert migrated.rows("select metric, unit, kind from series") == [("level", "m", "numeric")]
    assert migrated.one("select count(*) from reading") == 1
    assert migrated.rows("select online, bd_seq, first_seen_at, last_seen_at, last_birth_at from node") == [
        (True, 1, NOW_AT, NOW_AT + timedelta(milliseconds=500), NOW_AT)
    ]
    write(
        1,
        payload_record(kind="DBIRTH", metrics=[replace(level, unit="ft")], offset=3),
        payload_record(kind="NDEATH", metrics=[bd_seq(1)], offset=4, received_at_ms=NOW + 1000),
    )
    assert migrated.rows("select metric, unit from series order by version") == [("level", "m"), ("level", "ft")]
    assert migrated.rows("select online, last_death_at from node") == [(False, NOW_AT + timedelta(seconds=1))]
    assert migrated.rows("select device_id, status, bd_seq from node_status order by at, device_id") == [
        ("", "online", 1),
        ("d", "online", None),
        ("", "offline", 1),
        ("d", "offline", 1),
    ]


def test_the_death_of_a_node_takes_only_devices_that_were_there(
    migrated: Database, write: Write, payload_record: Make
) -> None:
    write(
        0,
        payload_record(kind="DBIRTH", offset=0, received_at_ms=NOW - 9),
        payload_record(kind="NBIRTH", metrics=[bd_seq(1)], offset=1),
    )
    write(1, payload_record(kind="NDEATH", metrics=[bd_seq(1)], offset=2, received_at_ms=NOW + 1))
    assert migrated.one("select count(*) from node_status where device_id = 'd'") == 1, "of another life of the node"
    write(
        2,
        payload_record(kind="NBIRTH", metrics=[bd_seq(2)], offset=3, received_at_ms=NOW + 2),
        payload_record(kind="DBIRTH", offset=4, received_at_ms=NOW + 3),
        payload_record(kind="DDEATH", offset=5, received_at_ms=NOW + 4),
        payload_record(kind="NDEATH", metrics=[bd_seq(2)], offset=6, received_at_ms=NOW + 5),
    )
    assert migrated.one("select max(at) from node_status where device_id = 'd'") == NOW_AT + timedelta(milliseconds=4)
    write(
        3,
        payload_record(kind="NBIRTH", metrics=[bd_seq(3)], offset=7, received_at_ms=NOW + 6),
        payload_record(kind="DBIRTH", offset=8, received_at_ms=NOW + 7),
        payload_record(kind="NDEATH", metrics=[bd_seq(2)], offset=9, received_at_ms=NOW + 8),
    )
    assert migrated.one("select max(at) from node_status where status = 'offline'") == NOW_AT + timedelta(
        milliseconds=5
    ), "the will of a connection that was replaced"


def test_a_batch_in_pieces_is_one_entry_and_is_finished_after_a_break(
    migrated: Database, writer: Writer, payload_record: Make, table_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    tables = [table_of(payload_record({"a": float(n)}, sampled_at_ms=NOW + n, offset=n)) for n in range(3)]
    first = Batch(tables[0])
    second = Batch(tables[1], first.offsets())
    whole = {"headwater.payloads": {"0": 3}}
    for pieces in (
        (first, second),
        (first, second, Batch(tables[2], second.offsets())),
        (Batch(table_of(*(payload_record({"a": float(n)}, sampled_at_ms=NOW + n, offset=n) for n in range(3)))),),
    ):
        for piece in pieces:
            writer.write(BatchKey(QUERY, 0), piece)
        caplog.clear()
    assert migrated.rows("select offsets, reading_rows from ingest_batch") == [(whole, 3)]
    assert migrated.one("select count(*) from reading") == 3


def test_a_flood_of_dead_letters_is_counted_in_full_and_stored_in_part(
    migrated: Database, write: Write, payload_record: Make
) -> None:
    write(0, *(payload_record(payload=b"\xff" * 10_000, offset=n) for n in range(1200)))
    assert migrated.rows("select count(*), sum(length(payload)) < 1100000 from dead_letter") == [(1000, True)]
    assert migrated.one("select dead_letter_rows from ingest_batch") == 1200


def test_a_dictionary_that_is_full_starts_anew(migrated: Database, payload_record: Make, table_of: Make) -> None:
    with closing(psycopg2.connect(migrated.writer)) as opened:
        series = SeriesDictionary(opened, max_known=10)
        for n in range(5):
            readings = Batch(table_of(payload_record({f"m{n}-{i}": 1.0 for i in range(6)}))).readings
            ids = series.ids(series_of_readings(readings))
            assert len(set(ids.tolist())) == 6
            assert len(series._ids) <= 16
    assert migrated.one("select count(*) from series") == 30


def test_the_death_of_a_replaced_connection_is_ignored(migrated: Database, write: Write, payload_record: Make) -> None:
    write(
        0,
        payload_record(kind="NBIRTH", metrics=[bd_seq(1)], offset=0),
        payload_record(kind="NBIRTH", metrics=[bd_seq(2)], offset=1, received_at_ms=NOW + 1),
        payload_record(kind="NDEATH", metrics=[bd_seq(1)], offset=2, received_at_ms=NOW + 2),
    )
    assert migrated.rows("select online, bd_seq from node") == [(True, 2)]
    assert migrated.one("select count(*) from node_status where status = 'offline'") == 0


def test_births_and_deaths_of_long_ago_that_come_again_change_nothing(
    migrated: Database, write: Write, payload_record: Make
) -> None:
    minutes = 60_000
    log = [
        payload_record(kind=kind, metrics=[bd_seq(number)], offset=n, received_at_ms=NOW + n * 5 * minutes)
        for n, (kind, number) in enumerate([("NBIRTH", 0), ("NDEATH", 0), ("NBIRTH", 0), ("NBIRTH", 1)])
    ]
    last_death = payload_record(kind="NDEATH", metrics=[bd_seq(1)], offset=4, received_at_ms=NOW + 20 * minutes)
    write(0, *log)
    statuses = migrated.rows("select * from node_status order by at")
    for n, record in enumerate(log):
        write(1 + n, record)
        assert migrated.rows("select online, bd_seq from node") == [(True, 1)]
    assert migrated.rows("select * from node_status order by at") == statuses
    write(5, last_death)
    write(6, log[-1])
    assert migrated.one("select online from node") is False


def test_a_gap_is_stored_once(migrated: Database, write: Write, payload_record: Make) -> None:
    gap = payload_record(metrics=[Gap(NOW - 5000, NOW, "agent killed").to_metric(NOW)])
    write(0, gap)
    write(1, gap)
    assert migrated.rows("select device_id, from_at, to_at, reason from gap") == [
        ("d", NOW_AT - timedelta(seconds=5), NOW_AT, "agent killed")
    ]


def test_numbers_and_texts_of_one_name_are_two_series(migrated: Database, write: Write, payload_record: Make) -> None:
    write(0, payload_record({"m": 1.0}), payload_record({"m": "one"}, offset=1))
    assert migrated.rows("select metric, kind from series order by kind") == [("m", "numeric"), ("m", "text")]


def test_commits_are_durable_even_where_the_server_would_not_wait(
    migrated: Database, writer: Writer, write: Write, payload_record: Make
) -> None:
    migrated.run("alter role headwater_writer set synchronous_commit = off")
    write(0, payload_record({"a": 1.0}))
    assert writer._session is not None
    with writer._session.opened.cursor() as cursor:
        cursor.execute("show synchronous_commit")
        assert cursor.fetchone() == ("on",)
    migrated.run("alter role headwater_writer reset synchronous_commit")


def test_a_cut_connection_is_opened_again(
    migrated: Database, write: Write, payload_record: Make, caplog: pytest.LogCaptureFixture
) -> None:
    write(0, payload_record({"a": 1.0}))
    migrated.run(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'headwater stream' "
        "and datname = current_database()"
    )
    with caplog.at_level("INFO"):
        write(1, payload_record({"a": 2.0}, sampled_at_ms=NOW + 1))
    assert migrated.one("select count(*) from reading") == 2
    told = [record.message for record in caplog.records if "the database is" in record.message]
    assert [text[:20] for text in told] == ["the database is away", "the database is back"]


def test_a_batch_that_the_database_refuses_ends_the_stream_with_advice(
    migrated: Database, writer: Writer, write: Write, payload_record: Make
) -> None:
    migrated.run("revoke insert on reading from headwater_writer")
    with pytest.raises(FatalError, match=r"permission denied.*python -m db migrate"):
        write(0, payload_record({"a": 1.0}))
    assert writer.failure is not None
    assert migrated.one("select count(*) from ingest_batch") == 0


def test_the_tables_are_checked_at_the_start(migrated: Database) -> None:
    check_tables(migrated.writer)
    migrated.run("alter table gap rename to hole")
    with pytest.raises(FatalError, match="lacks insert on gap: run `python -m db migrate`"):
        check_tables(migrated.writer)
    wrong = make_dsn(**(parse_dsn(migrated.writer) | {"password": "wrong"}))
    with pytest.raises(FatalError, match="password authentication failed"):
        check_tables(wrong)


def test_a_stop_is_heard_while_the_database_is_away() -> None:
    stop, progress = threading.Event(), Progress()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(StopRequested):
        retrying(lambda: check_tables("host=127.0.0.1 port=1 user=x dbname=x"), stop, progress)
    assert progress.database == "away"


def test_the_ledger_tells_what_the_bridge_brought_and_what_waits(
    migrated: Database, writer: Writer, write: Write, payload_record: Make
) -> None:
    write(0, payload_record({"a": 1.0}, offset=0), payload_record({"a": 2.0}, offset=1, sampled_at_ms=NOW + 1))
    writer.progress.lag = 7
    write(1, payload_record({"a": 3.0}, offset=2, sampled_at_ms=NOW + 2))
    assert migrated.rows("select records, records_waiting from ingest_batch order by batch_id") == [(2, None), (1, 7)]


def test_kill_9_of_the_server_in_mid_batch_loses_and_repeats_nothing(payload_record: Make, table_of: Make) -> None:
    """Twenty batches, the server killed up to three times under them; every other batch is also run twice."""
    with Timescale(shared_buffers="64MB") as server:
        superuser = server.superuser_dsn
        migrate.migrate(superuser, 10)
        roles.allow_login(superuser, "headwater_writer", "long enough", 10)
        dsn = make_dsn(**(parse_dsn(superuser) | {"user": "headwater_writer", "password": "long enough"}))
        writer = Writer(dsn, threading.Event())
        batches = [
            Batch(
                table_of(
                    *(
                        payload_record(
                            dict.fromkeys(map(str, range(100)), 1.0), offset=n * 20 + i, sampled_at_ms=NOW + n * 20 + i
                        )
                        for i in range(20)
                    )
                )
            )
            for n in range(20)
        ]
        done = threading.Event()

        def write_all() -> None:
            for n, batch in enumerate(batches):
                for _ in range(1 + n % 2):
                    writer.write(BatchKey(QUERY, n), batch)
            done.set()

        thread = threading.Thread(target=write_all)
        thread.start()
        kills = 0
        while not done.wait(0.15) and kills < 3:
            server.kill()
            kills += 1
            server.start()
        thread.join()
        writer.close()
        assert kills >= 1
        with psycopg2.connect(superuser) as opened, opened.cursor() as cursor:
            cursor.execute("select count(*), count(distinct (series_id, sampled_at)) from reading")
            assert cursor.fetchone() == (40_000, 40_000)
            cursor.execute("select count(*), sum(reading_rows), sum(duplicate_rows) from ingest_batch")
            assert cursor.fetchone() == (20, 40_000, 0)
        opened.close()


def test_a_line_a_minute_is_told_also_when_nothing_comes(
    writer: Writer,
    write: Write,
    payload_record: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(0, payload_record({"a": 1.0, "b": 2.0}))
    with caplog.at_level("INFO"):
        writer.tell()
        assert "in the last" not in caplog.text, "not a minute yet"
        monkeypatch.setattr("stream.ingest.writer._TELL_EVERY_S", 0.0)
        writer.tell()
        writer.tell()
    told = [message.partition(": ")[2] for message in caplog.messages if message.startswith("in the last")]
    assert len(told) == 2
    assert told[0].startswith("2 readings, 0 texts")
    assert told[1] == ("0 readings, 0 texts, 0 delivered again, 0 set aside; lag not known; database ok, Kafka ok")
