"""Roll-ups on the Apache edition: what `roll_up()` leaves is what a plain aggregate over `reading` says."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.ingest import copy, pending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg2.extensions import connection

    Query = Callable[..., list[tuple[Any, ...]]]

START_MS = 1_767_225_600_000 - 3_600_000  # an hour before 2026-01-01: buckets of all widths end in between
START = datetime.fromtimestamp(START_MS / 1000, UTC)
GOOD, BAD = 192, 24
PLAIN = """
select series_id, time_bucket(%s::interval, sampled_at), count(*) filter (where quality = 192),
       count(*) filter (where quality <> 192), sum(value) filter (where quality = 192)
       / nullif(count(*) filter (where quality = 192), 0), min(value) filter (where quality = 192),
       max(value) filter (where quality = 192), first(value, sampled_at) filter (where quality = 192),
       last(value, sampled_at) filter (where quality = 192)
from reading group by 1, 2 order by 1, 2
"""
ROLLED = "select series_id, bucket_at, n_good, n_bad, mean, min, max, first, last from {} order by 1, 2"
WIDTHS = {"reading_1m": "1 minute", "reading_1h": "1 hour", "reading_1d": "1 day"}


@dataclass(frozen=True)
class Reading:
    series: int
    after_ms: int
    value: float | None


def connect(dsn: str) -> connection:
    opened: connection = psycopg2.connect(dsn, options="-c lock_timeout=10s")
    return opened


def ingest(into: connection, readings: Sequence[Reading]) -> None:
    """As the sink does: notes, then readings, of which those that are there stay."""
    # Of a key delivered twice the values are the same.
    once = {(r.series, r.after_ms): r.value for r in readings}
    ids = np.array([series for series, _ in once], np.int32)
    times = np.array([START_MS + after_ms for _, after_ms in once], np.int64)
    values = np.array([np.nan if value is None else value for value in once.values()])
    with into.cursor() as cursor:
        if into.autocommit:
            cursor.execute("begin")
        pending.note(cursor, pending.encoded(ids, times))
        cursor.execute("create temporary table if not exists staged (like reading) on commit delete rows")
        encoded = copy.readings(ids, times, values, np.where(np.isnan(values), BAD, GOOD).astype(np.int16))
        cursor.copy_expert("copy staged (series_id, sampled_at, value, quality) from stdin (format binary)", encoded)
        cursor.execute("insert into reading select * from staged on conflict (series_id, sampled_at) do nothing")
        if into.autocommit:
            cursor.execute("commit")


def roll_up(on: connection, most: int = 10_000) -> tuple[int, ...]:
    with on.cursor() as cursor:
        cursor.execute("select * from roll_up(%s)", (most,))
        return cursor.fetchone() or ()


def assert_exact(opened: connection, query: Query) -> None:
    for view, width in WIDTHS.items():
        assert query(opened, ROLLED.format(view)) == query(opened, PLAIN, width)


# The value follows from series and time, as it does of one reading that is delivered twice; whole, so sums are exact.
reading = st.builds(
    lambda series, after_ms: Reading(series, after_ms, None if after_ms % 5 == 0 else float(after_ms % 1000 - 300)),
    st.integers(1, 6),
    st.integers(0, 26 * 60).map(lambda step: step * 97_001) | st.integers(0, 300_000),
)
readings = st.lists(reading, min_size=1, max_size=40)
step = st.one_of(
    st.tuples(st.just("commit"), readings),
    st.tuples(st.just("abort"), readings),
    # Open while the next steps run; committed at last.
    st.tuples(st.just("open"), readings),
    st.tuples(st.just("roll up"), st.integers(1, 20)),
    st.tuples(st.just("killed roll-up"), st.integers(1, 20)),
)


@given(st.lists(step, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_roll_ups_are_exact_whatever_comes_twice_late_or_is_killed(
    rolling: str, opened: connection, query: Query, steps: list[tuple[str, Any]]
) -> None:
    query(opened, "truncate reading, rollup_pending, rollup_1m, rollup_1h, rollup_1d")
    # Their chunks: who makes one keeps others from making theirs.
    ingest(opened, [Reading(1, day * 86_400_000, 1.0) for day in range(4)])
    with ExitStack() as stack:
        others = [stack.enter_context(closing(connect(rolling))) for _ in steps]
        for number, (other, step) in enumerate(zip(others, steps, strict=True)):
            play(other, number, step)
        for other in others:
            other.commit()
        while roll_up(opened)[0]:
            pass
        assert_exact(opened, query)
    # All again, as after a checkpoint was lost: nothing changes.
    for _, what in steps:
        if isinstance(what, list):
            ingest(opened, what)
    while roll_up(opened)[0]:
        pass
    assert_exact(opened, query)


def play(on: connection, number: int, step: tuple[str, Any]) -> None:
    """One step, on a connection of its own."""
    kind, what = step
    if isinstance(what, int):
        roll_up(on, what)
    else:
        # Whoever inserts a key that an open transaction has inserted waits for that: it has series of its own.
        ingest(on, [replace(r, series=r.series + 10 * (number + 1)) for r in what] if kind == "open" else what)
    if kind in ("commit", "roll up"):
        on.commit()
    elif kind in ("abort", "killed roll-up"):
        on.rollback()


def test_a_note_that_commits_during_a_roll_up_stays_for_the_next(
    rolling: str, opened: connection, query: Query
) -> None:
    with closing(connect(rolling)) as late:
        ingest(opened, [Reading(1, 0, 1.0)])
        ingest(late, [Reading(2, 0, 2.0)])
        assert roll_up(opened)[0] == 1
        late.commit()
        assert query(opened, "select first_series from rollup_pending") == [(2,)]
        assert roll_up(opened)[:2] == (1, 1)
    assert_exact(opened, query)


def test_two_maintainers_do_not_clash(rolling: str, opened: connection) -> None:
    ingest(opened, [Reading(1, 0, 1.0)])
    with closing(connect(rolling)) as other:
        assert roll_up(other)[0] == 1
        assert roll_up(opened) == ()
        other.rollback()
    assert roll_up(opened)[0] == 1


def test_readings_as_large_as_can_be_do_not_stop_the_roll_up(opened: connection, query: Query) -> None:
    ingest(opened, [Reading(1, at, 1.7e308) for at in range(3)] + [Reading(1, 60_000, -1.7e308)])
    roll_up(opened)
    assert query(opened, "select max, mean from reading_1m order by bucket_at") == [
        (1.7e308, 1e290),
        (-1.7e308, -1e290),
    ]
    assert query(opened, "select n_good, min, max from reading_1d") == [(4, -1.7e308, 1.7e308)]


def test_what_retention_took_is_not_rolled_up_anew(opened: connection, query: Query) -> None:
    ingest(opened, [Reading(1, at * 1000, float(at)) for at in range(60)])
    roll_up(opened)
    before = [query(opened, f"select * from {view}") for view in WIDTHS]
    query(opened, "select drop_chunks('reading', older_than => %s::timestamptz)", START + timedelta(days=2))
    ingest(opened, [Reading(1, 500, 7.0)])
    assert roll_up(opened) == (1, 0, 0, 0, False)
    assert [query(opened, f"select * from {view}") for view in WIDTHS] == before
    # A device that was away all the time is rolled up in full, in however many batches it comes.
    ingest(opened, [Reading(2, 500, 7.0)])
    roll_up(opened)
    ingest(opened, [Reading(2, 700, 9.0)])
    roll_up(opened)
    assert query(opened, "select n_good, mean from reading_1d where series_id = 2") == [(2, 8.0)]


@pytest.mark.parametrize("width", ["10 s", "90 s", "1m", "5m", "1h", "6h", "1d", "7d"])
def test_buckets_of_any_width_are_those_of_a_plain_aggregate(opened: connection, query: Query, width: str) -> None:
    several = [Reading(s, at * 7001, None if at % 9 == 0 else float(at)) for s in (1, 2, 3) for at in range(300)]
    ingest(opened, [*several, *(Reading(1, at * 40_000_000, 1.0) for at in range(1, 20))])
    roll_up(opened)
    call = "select * from reading_bucketed(array[1, 3], %s, %s, %s::interval) order by 1, 2"
    found = query(opened, call, START, START + timedelta(days=12), width)
    assert found == [row for row in query(opened, PLAIN, width) if row[0] in (1, 3)]


@pytest.mark.parametrize(
    ("width", "of"), [("30s", "reading"), ("5m", "rollup_1m"), ("2h", "rollup_1h"), ("7d", "rollup_1d")]
)
def test_only_the_roll_up_of_the_asked_width_is_read(opened: connection, query: Query, width: str, of: str) -> None:
    ingest(opened, [Reading(1, 0, 1.0)])
    roll_up(opened)
    call = f"explain select * from reading_bucketed(array[1], %s, %s, '{width}')"
    scans = [line for (line,) in query(opened, call, START, START + timedelta(hours=1)) if "Scan" in line]
    chunks = query(opened, "select chunk_name from timescaledb_information.chunks where hypertable_name = %s", of)
    assert scans
    assert all(any(chunk in line for (chunk,) in chunks) for line in scans)
