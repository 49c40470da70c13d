"""Frames of camera clips, from the record to the table, each once."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg2
import pyarrow as pa
import pytest

from contract.clips import CLIP, ClipFrame
from contract.datatypes import DataType
from contract.sparkplug import Metric
from stream.ingest.batch import Batch
from stream.ingest.decode import Limits, decode_record
from stream.ingest.rows import SCHEMA, CameraFrame, DeadLetter, NumericReading, NumericSeries, Presence, Record
from stream.ingest.sink import BatchKey
from stream.ingest.transform import _decode_batches
from stream.ingest.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.ingest.rows import Row
    from tests.stream.conftest import Database

    Make = Callable[..., Any]

NOW = 1_700_000_000_000
NOW_AT = datetime.fromtimestamp(NOW / 1000, UTC)
LIMITS = Limits(366 * 86_400_000, 3_600_000)
JPEG = b"\xff\xd8\xff\xe0 a picture \xff\xd9"
QUERY = UUID(int=1)
FRAME = ClipFrame("e1", "yard/motion", 1, 3, NOW - 2000, JPEG)


def rows_of(record: Any) -> list[Row]:
    _, *rows = decode_record(record, LIMITS)
    return rows


def test_a_frame_is_a_row_beside_the_readings(payload_record: Make) -> None:
    rows = rows_of(payload_record({"brightness": 90.0}, metrics=[FRAME.to_metric(NOW - 500)]))
    assert rows[0] == CameraFrame("g", "n", "d", "e1", 1, 3, "yard/motion", NOW - 2000, NOW - 500, JPEG)
    assert isinstance(rows[1], NumericReading)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (replace(FRAME, jpeg=b"MZ executable").to_metric(NOW), "no whole JPEG"),
        (replace(FRAME, frame_no=4).to_metric(NOW), "frame 4 of 3"),
        (replace(FRAME.to_metric(NOW), properties={}), "needed are event, kind"),
        (FRAME.to_metric(NOW + 86_400_000), "after it was received"),
        (replace(FRAME, started_at_ms=1).to_metric(NOW), "before it was received"),
        (Metric(CLIP, DataType.BYTES, None, NOW, quality=0), "allowed is a JPEG"),
        (Metric("photo", DataType.BYTES, JPEG, NOW), "BYTES is not stored"),
    ],
)
def test_a_malformed_frame_is_a_dead_letter_and_costs_nothing_else(
    metric: Metric, reason: str, payload_record: Make
) -> None:
    reading, letter = rows_of(payload_record({"brightness": 90.0}, metrics=[metric]))
    assert isinstance(reading, NumericReading)
    assert isinstance(letter, DeadLetter)
    assert reason in letter.reason
    assert letter.metric == metric.name


def test_a_birth_that_announces_clips_makes_no_series_and_no_dead_letter(payload_record: Make) -> None:
    announced = Metric(CLIP, DataType.BYTES, None, NOW, quality=500)
    rows = rows_of(payload_record({"brightness": 1.0}, kind="DBIRTH", metrics=[announced]))
    assert [type(row) for row in rows] == [Presence, NumericSeries, NumericReading]


@pytest.fixture
def write(migrated: Database, table_of: Make) -> Iterator[Callable[..., None]]:
    writer = Writer(migrated.writer, threading.Event())

    def batch(n: int, *records: object, query: UUID = QUERY) -> None:
        writer.write(BatchKey(query, n), Batch(table_of(*records)))

    yield batch
    writer.close()


def test_frames_are_stored_once_however_often_they_come(
    migrated: Database, write: Callable[..., None], payload_record: Make
) -> None:
    first = payload_record(metrics=[FRAME.to_metric(NOW - 500)], offset=0)
    second = payload_record(metrics=[replace(FRAME, frame_no=2).to_metric(NOW)], offset=1)
    repeated = payload_record(metrics=[FRAME.to_metric(NOW - 500)], offset=2)
    write(0, first, repeated)
    write(1, second, repeated)
    write(0, first, second, repeated, query=uuid4())
    started = NOW_AT - timedelta(seconds=2)
    assert [(*row, bytes(jpeg)) for *row, jpeg in migrated.rows("select * from camera_event order by frame_no")] == [
        ("g", "n", "d", "e1", 1, 3, "yard/motion", started, NOW_AT - timedelta(milliseconds=500), JPEG),
        ("g", "n", "d", "e1", 2, 3, "yard/motion", started, NOW_AT, JPEG),
    ]
    assert migrated.rows(
        "select reading_rows, clip_rows, duplicate_rows, dead_letter_rows from ingest_batch order by committed_at"
    ) == [(0, 1, 1, 0), (0, 1, 1, 0), (0, 0, 3, 0)]


def test_frames_and_ledger_stand_or_fall_together(
    migrated: Database, write: Callable[..., None], payload_record: Make
) -> None:
    migrated.run("alter table camera_event add constraint no_second check (frame_no <> 2)")
    broken = payload_record({"a": 1.0}, metrics=[replace(FRAME, frame_no=2).to_metric(NOW)])
    with pytest.raises(Exception, match="no_second"):
        write(0, payload_record(metrics=[FRAME.to_metric(NOW)], offset=0), broken)
    for table in ("camera_event", "reading", "ingest_batch"):
        assert migrated.one(f"select count(*) from {table}") == 0


def test_the_writer_may_not_change_and_the_reader_may_only_look(migrated: Database) -> None:
    may = migrated.rows(
        "select grantee, string_agg(privilege_type, ', ' order by privilege_type) from "
        "information_schema.role_table_grants where table_name = 'camera_event' and grantee <> 'headwater_owner' "
        "group by grantee order by grantee"
    )
    assert may == [("headwater_reader", "SELECT"), ("headwater_writer", "INSERT, SELECT")]


def test_the_database_too_refuses_a_frame_beyond_its_clip(migrated: Database) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        migrated.run("insert into camera_event values ('g', 'n', 'd', 'e', 4, 3, 'k', now(), now(), 'x')")


def test_many_large_frames_are_taken_in_pieces_of_bounded_memory(payload_record: Make) -> None:
    jpeg = b"\xff\xd8\xff" + bytes(60_000) + b"\xff\xd9"
    records = [
        payload_record(metrics=[replace(FRAME, frame_no=n, frames=100, jpeg=jpeg).to_metric(NOW)], offset=n)
        for n in range(1, 101)
    ]
    pieces, most = [], 1 << 20
    while records:
        found = list(_decode_batches(LIMITS, "dead", most, [_columns(records)]))
        assert sum(batch.nbytes for batch in found) < 2 * most + 100_000, "one batch of payloads more at most"
        batch = Batch(pa.Table.from_batches(found, SCHEMA))
        pieces += batch.of(CameraFrame)["frame_no"].to_pylist()
        after = [left.kafka_offset for left in batch.unfinished()]
        records = [record for record in records if after and record.offset >= after[0]]
    assert pieces == list(range(1, 101))


def _columns(records: list[Any]) -> pa.RecordBatch:
    rows = [
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "headers": [{"key": key, "value": value} for key, value in record.headers],
            "value": record.value,
        }
        for record in records
    ]
    return pa.RecordBatch.from_pylist(rows)


def test_a_batch_without_frames_has_no_part_of_them(table_of: Make, payload_record: Make) -> None:
    batch = Batch(table_of(payload_record({"a": 1.0})))
    assert batch.of(CameraFrame).num_rows == 0
    assert batch.of(Record).num_rows == 1
