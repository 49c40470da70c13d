from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.ingest import pending
from stream.ingest.batch import Batch
from stream.ingest.sink import BatchKey
from stream.ingest.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tests.stream.conftest import Database

    Make = Callable[..., Any]

MINUTE_MS = 60_000
readings = st.lists(st.tuples(st.integers(1, 2200) | st.just(2**31 - 1), st.integers(0, 5 * MINUTE_MS)), min_size=1)


def arrays(found: list[tuple[int, int]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    return np.array([pair[0] for pair in found], np.int32), np.array([pair[1] for pair in found], np.int64)


@given(readings)
def test_runs_hold_the_touched_minutes_of_series_and_few_others(found: list[tuple[int, int]]) -> None:
    touched = {(at // MINUTE_MS, series) for series, at in found}
    runs = list(zip(*(column.tolist() for column in pending.runs(*arrays(found))), strict=True))
    held = [(minute, series) for minute, first, last in runs for series in range(first, last + 1)]
    assert len(held) == len(set(held))
    assert touched <= set(held)
    assert touched >= {(minute, end) for minute, *ends in runs for end in ends}
    assert all(any((minute, series - gap) in touched for gap in range(32)) for minute, series in held)


def test_a_fleet_is_a_few_runs_and_each_batch_notes_the_same_ones() -> None:
    series = np.arange(1, 3001, dtype=np.int32)
    at = np.full(3000, 1_700_000_000_000)
    minutes, first, last = pending.runs(series, at)
    assert set(minutes.tolist()) == {1_700_000_000_000 // MINUTE_MS}
    ends = [(1, 1023), (1024, 2047), (2048, 3000)]
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == ends
    # Some say nothing this time.
    few = (series % 16 == 1) | np.isin(series, np.ravel(ends))
    _, first, last = pending.runs(series[few], at[few])
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == ends


def test_a_batch_notes_what_it_touched(migrated: Database, table_of: Make, payload_record: Make) -> None:
    at = 1_700_000_000_000
    writer = Writer(migrated.writer, threading.Event())
    records = [payload_record({"a": 1.0, "b": 2.0, "text": "x"}, sampled_at_ms=at, received_at_ms=at)]
    for batch_id in (1, 2):
        writer.write(BatchKey(UUID(int=1), batch_id), Batch(table_of(*records)))
    writer.close()
    noted = migrated.rows("select extract(epoch from minute)::bigint, last_series - first_series from rollup_pending")
    assert noted == [(at // 1000 // 60 * 60, 1)] * 2
    migrated.run("select roll_up()")
    assert migrated.rows("select n_good, mean from reading_1m order by series_id") == [(1, 1.0), (1, 2.0)]
    assert migrated.rows("select count(*) from rollup_pending") == [(0,)]
