"""What the roll-ups have to do: which minutes of which series a batch touched, noted in the batch's own transaction."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np

from stream.ingest import copy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from psycopg2.extensions import cursor

_MINUTE_MS: Final = 60_000
# A run of series ends at a multiple of this, so that batch after batch notes the same runs, of which one is worked on.
_LONGEST_RUN: Final = 1024
# Series in between that a batch has nothing of are rolled up with the others: that changes nothing, and mostly some
# other batch of the same minute has them. A note for each series would cost the ingest a third of its COPY.
_WIDEST_GAP: Final = 31
_COPY: Final = "copy rollup_pending (minute, first_series, last_series) from stdin (format binary)"
_NOTE: Final = np.dtype(
    [
        ("fields", ">i2"),
        ("minute_bytes", ">i4"),
        ("minute", ">i8"),
        ("first_bytes", ">i4"),
        ("first", ">i4"),
        ("last_bytes", ">i4"),
        ("last", ">i4"),
    ]
)


def note(cursor: cursor, notes: io.BytesIO) -> None:
    """Write notes; before the readings, since retention locks notes and readings in that order."""
    cursor.copy_expert(_COPY, notes)


def encoded(series_ids: NDArray[np.int32], sampled_at_ms: NDArray[np.int64]) -> io.BytesIO:
    """Notes of readings [n], ready for `note`."""
    minutes, first, last = runs(series_ids, sampled_at_ms)
    rows = np.empty(len(minutes), _NOTE)
    rows["fields"], rows["minute_bytes"], rows["first_bytes"], rows["last_bytes"] = 3, 8, 4, 4
    rows["minute"], rows["first"], rows["last"] = copy.pg_microseconds(minutes * _MINUTE_MS), first, last
    return io.BytesIO(copy.HEADER + rows.tobytes() + copy.TRAILER)


def runs(
    series_ids: NDArray[np.int32], sampled_at_ms: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(minute, first series, last series), each int64 [m]: runs that hold every series that has readings in a minute.

    A fleet whose every series, or every tenth, has a reading is a few runs and not as many rows as series. Both ends
    of a run have readings; minutes count from 1970.
    """
    minute_and_series = np.unique((sampled_at_ms // _MINUTE_MS << 32) | series_ids)
    begins = np.ones(len(minute_and_series), dtype=bool)
    begins[1:] = (np.diff(minute_and_series) > _WIDEST_GAP + 1) | (np.diff(minute_and_series // _LONGEST_RUN) != 0)
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(minute_and_series)) - 1
    first, last = minute_and_series[starts], minute_and_series[ends]
    return first >> 32, first & 0xFFFFFFFF, last & 0xFFFFFFFF
