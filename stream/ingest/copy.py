"""PostgreSQL's binary COPY format, from numpy without a Python step per row."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER: Final = struct.pack(">h", -1)
_NULL: Final = -1
# PostgreSQL counts microseconds from 2000-01-01 UTC.
_PG_EPOCH_MS: Final = 946_684_800_000

# A row of `reading`: the number of fields, then length and big-endian value of each.
_READING: Final = np.dtype(
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
_NULL_READING: Final = np.dtype([(name, _READING[name]) for name in _READING.names or () if name != "value"])


def readings(
    series_ids: NDArray[np.int32],
    sampled_at_ms: NDArray[np.int64],
    values: NDArray[np.float64],
    quality: NDArray[np.int16],
) -> io.BytesIO:
    """Rows for `copy reading (series_id, sampled_at, value, quality)`; a NaN is written as null, after the others."""
    columns: dict[str, NDArray[Any]] = {
        "series_id": series_ids,
        "sampled_at": pg_microseconds(sampled_at_ms),
        "value": values,
        "quality": quality,
    }
    missing = np.isnan(values)
    parts = [_rows(_READING, columns)]
    if missing.any():
        absent = {name: column[missing] for name, column in columns.items() if name != "value"}
        given = {name: column[~missing] for name, column in columns.items()}
        parts = [_rows(_READING, given), _rows(_NULL_READING, absent)]
    return io.BytesIO(b"".join([HEADER, *(part.data for part in parts), TRAILER]))


def texts(
    series_ids: NDArray[np.int32],
    sampled_at_ms: NDArray[np.int64],
    values: Sequence[str | None],
    quality: NDArray[np.int16],
) -> io.BytesIO:
    """Rows for `copy reading_text (series_id, sampled_at, value, quality)`; texts are few, so row by row."""
    out = io.BytesIO()
    out.write(HEADER)
    times = pg_microseconds(sampled_at_ms).tolist()
    for series_id, at, value, how_good in zip(series_ids.tolist(), times, values, quality.tolist(), strict=True):
        encoded = None if value is None else value.encode()
        out.write(struct.pack(">hiiiqi", 4, 4, series_id, 8, at, _NULL if encoded is None else len(encoded)))
        out.write(encoded or b"")
        out.write(struct.pack(">ih", 2, how_good))
    out.write(TRAILER)
    out.seek(0)
    return out


def pg_microseconds(ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Milliseconds of UTC as PostgreSQL writes times in binary."""
    return (ms - _PG_EPOCH_MS) * 1000


def _rows(dtype: np.dtype[Any], columns: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Rows as bytes [n, bytes of a row]: one that has all but the values, as often as is wanted, and then these."""
    row = np.zeros(1, dtype)
    row["fields"] = 4
    for name in ("series_id", "sampled_at", "value", "quality"):
        row[f"{name}_bytes"] = dtype[name].itemsize if name in columns else _NULL
    rows = np.empty((len(columns["series_id"]), dtype.itemsize), np.uint8)
    rows[:] = row.view(np.uint8)
    for name, column in columns.items():
        rows.view(dtype)[name][:, 0] = column
    return rows
