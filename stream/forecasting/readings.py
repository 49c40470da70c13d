"""Readings of many series, each of a span of its own, in one query."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from psycopg2.extensions import cursor

    Times: TypeAlias = NDArray[np.int64]

# The limits stand there as constants, too: those keep the chunks out of the plan.
_READINGS: Final = """
copy (
  select r.series_id, r.sampled_at, coalesce(r.value, 'NaN'), r.quality
    from unnest(%(ids)s::int[], %(from)s::bigint[], %(to)s::bigint[]) as wanted (series_id, from_ms, to_ms)
   cross join lateral (
     select series_id, sampled_at, value, quality from reading
      where series_id = wanted.series_id
        and sampled_at >= to_timestamp(wanted.from_ms / 1000.0) and sampled_at < to_timestamp(wanted.to_ms / 1000.0)
        and sampled_at >= %(first)s::timestamptz and sampled_at < %(last)s::timestamptz) as r
) to stdout (format binary)
"""
_ROW: Final = np.dtype(
    [
        ("fields", ">i2"),
        ("series_id_bytes", ">i4"),
        ("series_id", ">i4"),
        ("sampled_at_bytes", ">i4"),
        ("sampled_at", ">i8"),
        ("value_bytes", ">i4"),
        ("value", ">f8"),
        ("quality_bytes", ">i4"),
        ("quality", ">i2"),
    ]
)
_HEADER_BYTES: Final = 19
_TRAILER_BYTES: Final = 2
# PostgreSQL counts microseconds from 2000-01-01 UTC.
_PG_EPOCH_MS: Final = 946_684_800_000


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """Readings by series and time, both rising.

    `series_id` int32 [n], `at_ms` int64 [n], `value` float64 [n], NaN where it is null, `quality` int16 [n].
    """

    series_id: NDArray[np.int32]
    at_ms: Times
    value: NDArray[np.float64]
    quality: NDArray[np.int16]

    def of(self, series_id: int) -> slice:
        """Where the readings of a series are."""
        first, last = np.searchsorted(self.series_id, [series_id, series_id + 1])
        return slice(int(first), int(last))


def read(cursor: cursor, spans: Sequence[tuple[int, int, int]]) -> Read:
    """The readings of spans (series, from ms, to ms), the last one not included; those that overlap count once."""
    if not spans:
        return _of(np.empty(0, _ROW))
    ids, firsts, lasts = (list(column) for column in zip(*spans, strict=True))
    given: dict[str, Any] = {"ids": ids, "from": firsts, "to": lasts}
    bounds = {"first": text_of(min(firsts)), "last": text_of(max(lasts))}
    answer = io.BytesIO()
    cursor.copy_expert(cursor.mogrify(_READINGS, given | bounds).decode(), answer)
    rows = np.frombuffer(answer.getbuffer()[_HEADER_BYTES : len(answer.getbuffer()) - _TRAILER_BYTES], _ROW)
    return _of(rows)


def text_of(at_ms: int) -> str:
    """A time as PostgreSQL reads it, to the millisecond."""
    return f"{np.datetime64(at_ms, 'ms')}Z"


def _of(rows: NDArray[Any]) -> Read:
    order = np.lexsort((rows["sampled_at"], rows["series_id"]))
    rows = rows[order]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (np.diff(rows["series_id"]) != 0) | (np.diff(rows["sampled_at"]) != 0)
    rows = rows[is_new]
    return Read(
        rows["series_id"].astype(np.int32),
        rows["sampled_at"].astype(np.int64) // 1000 + _PG_EPOCH_MS,
        rows["value"].astype(np.float64),
        rows["quality"].astype(np.int16),
    )
