"""A spool's file that was set aside, read row by row as far as SQLite gives rows, and never believed unverified."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from edge.spool.schema import note_checksum
from edge.spool.sequence import COLUMNS, numbers_of, verified

if TYPE_CHECKING:
    from pathlib import Path

    from edge.spool.sequence import StoredBatch

# The second where SQLite's own words are garbled.
_FAULTS: Final = (sqlite3.Error, UnicodeDecodeError, OverflowError)
_MOST_BYTES: Final = 64 << 20
# No batch takes less of a file: bounds the search where SQLite cannot say how many there were.
_LEAST_BATCH_BYTES: Final = 64


class Wreck:
    """One file, open for reading only, with what its log beside it holds. No method raises."""

    def __init__(self, path: Path) -> None:
        self._db: sqlite3.Connection | None = None
        self._most = 1
        with contextlib.suppress(OSError, *_FAULTS):
            sizes = [part.stat().st_size for part in (path, path.with_name(f"{path.name}-wal")) if part.exists()]
            self._most += sum(sizes) // _LEAST_BATCH_BYTES
            db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
            db.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
            db.execute("pragma cell_size_check = on")
            db.execute("pragma trusted_schema = off")
            self._db = db

    def close(self) -> None:
        """Lets go of the file."""
        if self._db is not None:
            with contextlib.suppress(*_FAULTS):
                self._db.close()

    def numbers(self, table: str) -> range | None:
        """Which batches a table held; None where that cannot be said for certain."""
        try:
            row = self._execute("select value, crc32 from note where kind = 'table' and key = ?", table)
        except _FAULTS:
            return None
        match row:
            case (str(value), crc32) if note_checksum("table", table, value) == crc32:
                return numbers_of(value)
        return None

    def found(self, table: str) -> range:
        """Which batches a table holds, as far as can be seen."""
        ends = [self._number(f"select {edge}(batch_no) from {table}") for edge in ("min", "max")]  # noqa: S608 - our own names
        known = [number for number in ends if number]
        return range(min(known), min(max(known), min(known) + self._most) + 1) if known else range(0)

    def read(self, table: str, batch_no: int) -> StoredBatch | None:
        """A batch as it was written; None where it cannot be read. Those of format 1 have no checksum to tell."""
        try:
            row = self._execute(f"select {COLUMNS} from {table} where batch_no = ?", batch_no)  # noqa: S608 - our own names
        except _FAULTS:
            return None
        return None if row is None else verified(row, table)

    def _number(self, query: str, *given: object) -> int | None:
        """What a query gives, 0 for a null, None where it cannot be asked or is no number."""
        try:
            row = self._execute(query, *given)
        except _FAULTS:
            return None
        match row:
            case (int(number),):
                return number
            case (None,):
                return 0
        return None

    def _execute(self, query: str, *given: object) -> tuple[object, ...] | None:
        if self._db is None:
            raise sqlite3.DatabaseError
        row: tuple[object, ...] | None = self._db.execute(query, given).fetchone()
        return row
