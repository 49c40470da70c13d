"""What the spool knows beside its batches: small values, each with a checksum, written through and held in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import CorruptSpoolError
from edge.spool.schema import note_checksum

if TYPE_CHECKING:
    import sqlite3

    Value = int | str
    Known = dict[str, dict[str, Value]]


class Notes:
    """All notes of a file. Whoever calls keeps the transactions, and restores what was known where one is rolled back.

    Raises CorruptSpoolError for a note that is garbled.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: Known = {}
        for kind, key, value, crc32 in db.execute("select kind, key, value, crc32 from note order by rowid"):
            if note_checksum(kind, key, value) != crc32:
                raise CorruptSpoolError(f"the note {kind} {key} is garbled")
            self._known.setdefault(kind, {})[key] = value

    def all(self, kind: str) -> dict[str, Value]:
        """The notes of a kind, the oldest first."""
        return dict(self._known.get(kind, {}))

    def number(self, kind: str, key: str) -> int:
        """A note that is a number; 0 where there is none."""
        return int(self._known.get(kind, {}).get(key, 0))

    def put(self, kind: str, key: str, value: Value) -> None:
        """Takes a note, in the place of the former one."""
        if self._known.get(kind, {}).get(key) == value:
            return
        self._db.execute(
            "insert into note values (?, ?, ?, ?) "
            "on conflict (kind, key) do update set value = excluded.value, crc32 = excluded.crc32",
            (kind, key, value, note_checksum(kind, key, value)),
        )
        self._known.setdefault(kind, {})[key] = value

    def remove(self, kind: str, key: str) -> None:
        """Forgets a note."""
        self._db.execute("delete from note where kind = ? and key = ?", (kind, key))
        self._known.get(kind, {}).pop(key, None)

    def known(self) -> Known:
        """What is known, for `restore`."""
        return {kind: dict(notes) for kind, notes in self._known.items()}

    def restore(self, known: Known) -> None:
        """A transaction was rolled back."""
        self._known = known
