"""Ledgers by the minute: what the triggers count is what the ledgers say, however a batch is entered."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from db import migrate, roles, server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection, cursor

QUERY = "00000000-0000-0000-0000-000000000001"
ENTER = "insert into {} (query_id, batch_id, offsets) values (%s, %s, '{{}}')"
CLOSE = """
update ingest_batch set committed_at = %s, reading_rows = reading_rows + %s, text_rows = text_rows + 1,
  duplicate_rows = duplicate_rows + 2, dead_letter_rows = dead_letter_rows + 3, records = records + 5,
  records_waiting = 40 - batch_id,
  latency_p50_ms = %s, latency_p99_ms = %s, latency_max_ms = %s
where (query_id, batch_id) = (%s, %s)
"""
PLAIN = """
select date_trunc('minute', committed_at), sum(reading_rows + text_rows), sum(duplicate_rows), sum(dead_letter_rows),
       sum(records), max(records_waiting),
       sum(latency_p50_ms * reading_rows) / sum(reading_rows) filter (where latency_p50_ms is not null),
       max(latency_p99_ms), max(latency_max_ms)
from ingest_batch group by 1 order by 1
"""
COUNTED = """
select bucket_at, stored_rows, duplicate_rows, dead_letter_rows, records, records_waiting,
       latency_p50_ms, latency_p99_ms, latency_max_ms
from ingest_bucketed('2026-01-01', '2026-01-02', '{}') order by 1
"""


@pytest.fixture
def ledger(database: str) -> Iterator[connection]:
    """The stream's own role, in autocommit."""
    migrate.migrate(database, 10)
    roles.allow_login(database, "headwater_writer", "long enough", 10)
    with closing(server.connect(database, 10)) as opened:
        with opened.cursor() as at:
            at.execute("set role headwater_writer; set timezone to 'utc'")
        yield opened


def rows(at: cursor, statement: str) -> list[tuple[Any, ...]]:
    at.execute(statement)
    return at.fetchall()


def fill(at: cursor) -> None:
    for batch in range(12):
        at.execute(ENTER.format("ingest_batch"), (QUERY, batch))
        p50 = None if batch % 5 == 4 else 300.0 + batch
        # A batch that is stored in pieces is updated for each.
        for _ in range(1 + batch % 2):
            minute, second = divmod(batch * 17, 60)
            values = (f"2026-01-01 00:{minute:02}:{second:02}+00", 100 + batch, p50, 900.0 + batch, 1000.0 + batch)
            at.execute(CLOSE, (*values, QUERY, batch))
        at.execute(ENTER.format("analysis_batch"), (QUERY, batch))
        at.execute(
            "update analysis_batch set committed_at = %s, readings = 7, late = 1 where batch_id = %s",
            (values[0], batch),
        )


def test_minutes_are_what_the_ledgers_say(ledger: connection) -> None:
    with ledger.cursor() as at:
        fill(at)
        plain = rows(at, PLAIN)
        at.execute("reset role")
        assert len(plain) == 4
        for width in ("1 minute", "20 s"):
            counted = rows(at, COUNTED.format(width))
            assert [sum(row[place] for row in counted) for place in (1, 2, 3, 4)] == [
                sum(row[place] for row in plain) for place in (1, 2, 3, 4)
            ]
        by_minute = rows(at, COUNTED.format("1 minute"))
        assert [row[0] for row in by_minute] == [row[0] for row in plain]
        assert [row[1:] for row in by_minute] == [pytest.approx(tuple(map(float, row[1:]))) for row in plain]
        assert rows(at, "select sum(readings), sum(late_rows) from analysis_minute") == [(84, 12)]
        assert rows(
            at, "select sum(readings), sum(late_rows) from analysis_bucketed('2026-01-01', '2026-01-02', '7 s')"
        ) == [(84, 12)]
        assert rows(at, "select max(pause_s) from ingest_minute where minute > '2026-01-01 00:00:00+00'") == [(17.0,)]


def test_a_batch_that_is_rolled_back_counts_nothing(ledger: connection) -> None:
    with ledger.cursor() as at:
        at.execute("begin")
        fill(at)
        at.execute("rollback")
        at.execute("reset role")
        assert rows(at, "select count(*) from ingest_minute") == [(0,)]


def test_a_database_that_was_in_use_has_its_minutes(ledger: connection) -> None:
    """What the migration fills in for ledgers that were there before it is the same as what is counted."""
    with ledger.cursor() as at:
        fill(at)
        at.execute("reset role")
        counted = rows(at, "select * from ingest_minute order by 1")
        text = (migrate.MIGRATIONS / "0011_dashboards.sql").read_text()
        (fill_in,) = [part for part in text.split(";") if "insert into ingest_minute\n" in part]
        at.execute("truncate ingest_minute")
        at.execute(fill_in)
        filled = rows(at, "select * from ingest_minute order by 1")
    # What later migrations have added was not there; of the first minute the pause before it is not known.
    *plain, pause = range(9)
    assert [[row[place] for place in plain] for row in filled] == [[row[place] for place in plain] for row in counted]
    assert [row[pause] for row in filled][1:] == [row[pause] for row in counted][1:]
