"""Columns into a table by way of a temporary one: a binary COPY, then one statement that takes the rows over."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from psycopg2.extensions import cursor

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_NULL: Final = -1
_COPY_BUFFER_BYTES: Final = 1 << 20
# PostgreSQL counts microseconds from 2000-01-01 UTC.
_PG_EPOCH_MS: Final = 946_684_800_000


def upsert(cursor: cursor, table: str, key: tuple[str, ...], columns: Mapping[str, NDArray[Any]]) -> int:
    """Insert rows, each key once, in place of those of the same key; how many. A name that ends in _ms is a time."""
    count = len(next(iter(columns.values())))
    if not count:
        return 0
    names = [name.removesuffix("_ms") for name in columns]
    staged = f"staged_{table}"
    # Made once per connection: a table per batch would bloat the catalogue.
    cursor.execute(f"create temporary table if not exists {staged} (like {table}) on commit delete rows")
    # A connection writes two batches in one transaction in a replay.
    cursor.execute(f"truncate {staged}")
    listed = ", ".join(names)
    cursor.copy_expert(f"copy {staged} ({listed}) from stdin (format binary)", encoded(columns), _COPY_BUFFER_BYTES)
    changed = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    cursor.execute(
        f"insert into {table} ({listed}) select {listed} from {staged} order by {', '.join(key)} "  # noqa: S608 - our own names
        f"on conflict ({', '.join(key)}) do update set {changed}"
    )
    return count


def encoded(columns: Mapping[str, NDArray[Any]]) -> io.BytesIO:
    """Rows [n] in PostgreSQL's binary format; NaN is written as null, and a name that ends in _ms as a time.

    Rows are of one length if they lack the same values and their texts (ASCII, dtype S) are as long: those together.
    """
    arrays = {name: _microseconds(array) if name.endswith("_ms") else array for name, array in columns.items()}
    sizes = np.stack([_sizes(array) for array in arrays.values()])
    shapes, shape_of_row = np.unique(sizes, axis=1, return_inverse=True)
    parts = []
    for place, shape in enumerate(shapes.T.tolist()):
        chosen = shape_of_row.reshape(-1) == place
        parts.append(_rows({name: array[chosen] for name, array in arrays.items()}, shape))
    return io.BytesIO(b"".join((_HEADER, *parts, _TRAILER)))


def _sizes(array: NDArray[Any]) -> NDArray[np.int64]:
    """Bytes of each value, _NULL for one that is missing."""
    if array.dtype.kind == "S":
        return np.char.str_len(array).astype(np.int64)
    if array.dtype.kind == "f":
        return np.where(np.isnan(array), _NULL, array.dtype.itemsize)
    return np.full(len(array), array.dtype.itemsize)


def _rows(columns: Mapping[str, NDArray[Any]], sizes: list[int]) -> bytes:
    layout: list[tuple[str, Any]] = [("fields", ">i2")]
    for (name, array), size in zip(columns.items(), sizes, strict=True):
        layout.append((f"{name} bytes", ">i4"))
        if size != _NULL:
            layout.append((name, f"S{size}" if array.dtype.kind == "S" else array.dtype.newbyteorder(">")))
    rows = np.empty(len(next(iter(columns.values()))), layout)
    rows["fields"] = len(columns)
    for (name, array), size in zip(columns.items(), sizes, strict=True):
        rows[f"{name} bytes"] = size
        if size != _NULL:
            rows[name] = array
    return rows.tobytes()


def _microseconds(ms: NDArray[np.int64]) -> NDArray[np.int64]:
    return (ms - _PG_EPOCH_MS) * 1000
