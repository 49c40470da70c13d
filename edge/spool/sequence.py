"""One lane's batches in the spool's file: numbered from 1 without holes, across restarts and even when none is left."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from edge.errors import CorruptSpoolError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence as Row

    from edge.batch import Batch
    from edge.lane import Lane


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch with its number; `kept_ms` is when (UTC ms) the spool took it."""

    batch_no: int
    device: str
    payload: bytes
    from_ms: int
    to_ms: int
    kept_ms: int

    def checksum(self, lane: Lane) -> int:
        """What stands beside it in the file, so that no garbled batch is ever taken for a whole one."""
        numbers = (lane, self.batch_no, self.from_ms, self.to_ms, self.kept_ms)
        head = " ".join(map(str, numbers)) + self.device
        return zlib.crc32(self.payload, zlib.crc32(head.encode()))


@dataclass(frozen=True, slots=True)
class Extent:
    """What a lane holds: batches `oldest` up to but not including `next_no`; equal when it is empty.

    `size_bytes` is that of the payloads; `oldest_kept_ms` is when (UTC ms) the spool took the oldest.
    """

    epoch: int
    oldest: int
    next_no: int
    size_bytes: int
    oldest_kept_ms: int | None

    @property
    def depth(self) -> int:
        """How many batches."""
        return self.next_no - self.oldest


class Tally(NamedTuple):
    """What is known of a lane without reading it."""

    next_no: int
    size_bytes: int


class LaneSequence:
    """The table of one lane. Whoever calls keeps the transactions, and puts `tally` back where one is rolled back."""

    def __init__(self, db: sqlite3.Connection, lane: Lane, next_no: int, unchecked_through: int) -> None:
        self.lane = lane
        self._db = db
        self._unchecked_through = unchecked_through
        # The lanes' names are ours.
        table = lane.name.lower()
        columns = "batch_no, device, payload, from_ms, to_ms, kept_ms, crc32"
        self._insert = f"insert into {table} ({columns}) values (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
        self._select = f"select {columns} from {table} where batch_no >= ? order by batch_no limit ?"  # noqa: S608 - our own names
        self._oldest = f"select batch_no, kept_ms from {table} order by batch_no limit 1"  # noqa: S608 - our own names
        self._spans = f"select device, min(from_ms), max(to_ms) from {table} where batch_no <= ? group by device"  # noqa: S608 - our own names
        self._sum = f"select coalesce(sum(length(payload)), 0) from {table} where batch_no <= ?"  # noqa: S608 - our own names
        self._delete = f"delete from {table} where batch_no <= ?"  # noqa: S608 - our own names
        self.tally = Tally(next_no, self._bytes_through(next_no))

    @property
    def next_no(self) -> int:
        """The number of the next batch."""
        return self.tally.next_no

    def append(self, batches: Row[Batch], now_ms: int) -> None:
        """Gives the batches the next numbers."""
        numbered = [
            StoredBatch(number, batch.device, batch.payload, batch.from_ms, batch.to_ms, now_ms)
            for number, batch in enumerate(batches, self.tally.next_no)
        ]
        rows = [
            (b.batch_no, b.device, b.payload, b.from_ms, b.to_ms, b.kept_ms, b.checksum(self.lane)) for b in numbered
        ]
        self._db.executemany(self._insert, rows)
        next_no = self.tally.next_no + len(rows)
        self._db.execute("update sequence set next_no = ? where lane = ?", (next_no, self.lane))
        self.tally = Tally(next_no, self.tally.size_bytes + sum(len(batch.payload) for batch in batches))

    def read_from(self, batch_no: int, limit: int) -> list[StoredBatch]:
        """Up to `limit` batches from a number on, in order; raises CorruptSpoolError for one that is garbled."""
        return [self._checked(row) for row in self._db.execute(self._select, (batch_no, limit))]

    def _checked(self, row: Row[object]) -> StoredBatch:
        match row:
            case (int(number), str(device), bytes(payload), int(from_ms), int(to_ms), int(kept_ms), crc32):
                batch = StoredBatch(number, device, payload, from_ms, to_ms, kept_ms)
                unchecked = crc32 is None and number <= self._unchecked_through
                if unchecked or batch.checksum(self.lane) == crc32:
                    return batch
        raise CorruptSpoolError(f"batch {row[0]} of lane {self.lane.name} is garbled")

    def oldest(self) -> tuple[int, int | None]:
        """The oldest batch's number, and when it was kept; the next number and None where there is no batch."""
        found: tuple[int, int] | None = self._db.execute(self._oldest).fetchone()
        return found or (self.tally.next_no, None)

    def spans_through(self, batch_no: int) -> dict[str, tuple[int, int]]:
        """For each device, from when until when (UTC ms) the readings up to a number reach."""
        return {device: (from_ms, to_ms) for device, from_ms, to_ms in self._db.execute(self._spans, (batch_no,))}

    def delete_through(self, batch_no: int) -> int:
        """Forgets every batch up to and including a number; returns how many."""
        size_bytes = self.tally.size_bytes - self._bytes_through(batch_no)
        self.tally = Tally(self.tally.next_no, size_bytes)
        return self._db.execute(self._delete, (batch_no,)).rowcount

    def _bytes_through(self, batch_no: int) -> int:
        total: int = self._db.execute(self._sum, (batch_no,)).fetchone()[0]
        return total
