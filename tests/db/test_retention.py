from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from db import maintain

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import connection

    Query = Callable[..., list[tuple[Any, ...]]]

OLD = "date_bin('1 day', now(), 'epoch') - interval '100 days'"


@pytest.fixture
def readings(opened: connection, query: Query, age: Callable[[connection], None]) -> connection:
    """Ten days of readings, four of them older than `reading` keeps, rolled up."""
    query(
        opened, f"insert into reading select 1, {OLD} + 2.5 * d * interval '1 day', d, 192 from generate_series(0, 9) d"
    )
    query(opened, "insert into rollup_pending (minute, first_series, last_series) select sampled_at, 1, 1 from reading")
    query(opened, "select roll_up()")
    age(opened)
    return opened


def test_readings_go_by_the_chunk_and_their_roll_ups_stay(readings: connection, query: Query) -> None:
    before = query(readings, "select * from reading_1d order by 2")
    assert maintain.retain(readings) == ["4 rows or chunks of reading"]
    assert query(readings, "select count(*) from reading where sampled_at < now() - interval '91 days'") == [(0,)]
    assert query(readings, "select count(*) from reading") == [(6,)]
    assert query(readings, "select * from reading_1d order by 2") == before
    assert len(before) == 10
    assert maintain.retain(readings) == []


def test_readings_that_are_not_rolled_up_yet_stay(readings: connection, query: Query) -> None:
    query(readings, f"insert into rollup_pending (minute, first_series, last_series) select {OLD}, 1, 1")
    assert maintain.retain(readings) == []
    assert query(readings, "select count(*) from reading") == [(10,)]
    query(readings, "select roll_up()")
    assert maintain.retain(readings) == ["4 rows or chunks of reading"]


def test_a_device_that_was_away_tells_all_of_a_day_before_that_goes(opened: connection, query: Query) -> None:
    note = f"insert into rollup_pending (minute, first_series, last_series) select {OLD}, 1, 1"
    for second in (1, 2):
        query(opened, note)
        query(opened, f"insert into reading select 1, {OLD} + interval '{second} s', 5, 192")
        query(opened, "select roll_up()")
        assert maintain.retain(opened) == []
    assert query(opened, "select n_good from reading_1m") == [(2,)]


def test_a_late_reading_on_its_way_is_waited_for_or_left(readings: connection, rolling: str, query: Query) -> None:
    with closing(psycopg2.connect(rolling)) as ingest:
        query(ingest, f"insert into rollup_pending (minute, first_series, last_series) select {OLD}, 1, 1")
        query(ingest, f"insert into reading select 1, {OLD} + interval '1 s', 5, 192")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            query(readings, "select retain_table('reading')")
        ingest.commit()
    assert query(readings, "select retain_table('reading')") == [(0,)]
    query(readings, "select roll_up()")
    assert query(readings, "select n_good from reading_1d order by bucket_at limit 1") == [(2,)]
    assert query(readings, "select retain_table('reading') > 0") == [(True,)]


def test_a_table_in_use_does_not_keep_others_from_being_kept_small(
    readings: connection, rolling: str, query: Query
) -> None:
    query(readings, "truncate dead_letter")
    letter = "insert into dead_letter (kafka_topic, kafka_partition, kafka_offset, item, reason, set_aside_at) "
    query(readings, letter + f"values ('t', 0, 1, -1, 'r', {OLD})")
    with closing(psycopg2.connect(rolling)) as dashboard:
        query(dashboard, "select count(*) from reading")
        assert maintain.retain(readings) == ["1 rows or chunks of dead_letter"]
    assert query(readings, "select count(*) from reading") == [(10,)]


def test_rows_go_in_pieces(opened: connection, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintain, "MOST_ROWS", 10)
    query(opened, "truncate gap")
    query(
        opened,
        "insert into gap (group_id, node_id, device_id, from_at, to_at, reason, declared_at) "
        "select 'g', 'n', d, now(), now(), 'r', now() - d * interval '10 days' from generate_series(1, 60) d",
    )
    assert query(opened, "select retain_table('gap', 10)") == [(10,)]
    assert maintain.retain(opened) == ["14 rows or chunks of gap"]
    assert query(opened, "select count(*), max(now() - declared_at) < interval '365 days' from gap") == [(36, True)]


def test_the_ledger_keeps_what_tells_a_stream_where_it_was(opened: connection, query: Query) -> None:
    query(opened, "truncate ingest_batch")
    query(
        opened,
        "insert into ingest_batch (query_id, batch_id, offsets, committed_at) "
        "select gen_random_uuid(), 1, '{}'::jsonb, timestamptz '2020-01-01' union all "
        "select '00000000-0000-0000-0000-000000000001', b, '{}', '2020-01-01' from generate_series(0, 199) b",
    )
    maintain.retain(opened)
    assert query(opened, "select min(batch_id), max(batch_id), count(*) from ingest_batch where batch_id <> 1") == [
        (100, 199, 100)
    ]
    assert query(opened, "select count(*) from ingest_batch where batch_id = 1") == [(1,)]


def test_a_device_keeps_its_last_status(opened: connection, query: Query) -> None:
    query(opened, "truncate node_status")
    query(
        opened,
        "insert into node_status (group_id, node_id, device_id, at, status) "
        "select 'g', 'n', d, at::timestamptz, s from (values ('a', '2020-01-01', 'online'), "
        "('a', '2020-01-02', 'offline'), ('b', '2020-01-01', 'online')) v (d, at, s)",
    )
    maintain.retain(opened)
    found = query(opened, "select device_id, status from node_status order by 1")
    assert found == [("a", "offline"), ("b", "online")]


def test_what_is_kept_is_the_owners_to_say(readings: connection, query: Query) -> None:
    query(readings, "update retention set keep = null where table_name = 'reading'")
    try:
        assert maintain.retain(readings) == []
    finally:
        query(readings, "update retention set keep = '90 days' where table_name = 'reading'")
    with pytest.raises(psycopg2.errors.CheckViolation):
        query(readings, "update retention set keep = '1 hour' where table_name = 'reading'")


def test_every_table_that_grows_has_a_rule_with_a_column_of_its_own(opened: connection, query: Query) -> None:
    unknown = """
    select table_name, time_column from retention r where not exists (
      select from information_schema.columns c where (c.table_name, c.column_name) = (r.table_name, r.time_column)
        and c.data_type = 'timestamp with time zone')"""
    assert query(opened, unknown) == []
    hypertables = query(opened, "select hypertable_name from timescaledb_information.hypertables")
    assert {name for (name,) in hypertables} <= {n for (n,) in query(opened, "select table_name from retention")}
