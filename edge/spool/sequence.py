"""One table of batches: numbered from 1 without holes, across restarts and even when none is left."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from contract.delivery import Gap
from edge.errors import CorruptSpoolError, GarbledBatchError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence as Row

    from edge.batch import Batch
    from edge.lane import Lane
    from edge.spool.notes import Notes


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch with its number; `kept_ms` is when (UTC ms) the spool took it."""

    batch_no: int
    device: str
    payload: bytes
    from_ms: int
    to_ms: int
    kept_ms: int

    def checksum(self, table: str) -> int:
        """What stands beside it in the file, so that no garbled batch is ever taken for a whole one.

        The upper half is of all but the payload: where that alone is garbled, it is known whose readings they were.
        """
        head = f"{table} {self.batch_no} {self.from_ms} {self.to_ms} {self.kept_ms} {self.device}"
        return (zlib.crc32(head.encode()) & _HEAD_MASK) << _HEAD_SHIFT | zlib.crc32(self.payload)


def numbers_of(note: object) -> range:
    """The batches that a table's note speaks of."""
    oldest_no, next_no = str(note).split()
    return range(int(oldest_no), int(next_no))


_GARBLED: Final = "spool garbled"
# What is committed at once is kept in memory too, unless it is more.
_NEWEST_BYTES: Final = 1 << 18
_NEAR: Final = 20
_HEAD_SHIFT: Final = 32
_HEAD_MASK: Final = 0x7FFFFFFF

COLUMNS: Final = "batch_no, device, payload, from_ms, to_ms, kept_ms, checksum"


def verified(row: Row[object], table: str, *, head_alone: bool = False) -> StoredBatch | None:
    """The batch in a row of `COLUMNS`, None where it is not what was written, or what is asked of it is not."""
    match row:
        case (int(number), str(device), bytes(payload), int(from_ms), int(to_ms), int(kept_ms), int(checksum)):
            batch = StoredBatch(number, device, payload, from_ms, to_ms, kept_ms)
            differs = batch.checksum(table) ^ checksum
            return None if (differs >> _HEAD_SHIFT if head_alone else differs) else batch
    return None


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


class KeptBatch(NamedTuple):
    """A batch, and when (ms) the spool took it."""

    batch: Batch
    kept_ms: int


class Tally(NamedTuple):
    """What is known of a table without reading it: batches `oldest_no` up to but not including `next_no`."""

    oldest_no: int
    next_no: int
    size_bytes: int


class BatchTable:
    """The batches of a lane. Whoever calls keeps the transactions, and calls `roll_back` with the former `tally`.

    `newest` is what was appended last, unless that was much.
    """

    def __init__(self, db: sqlite3.Connection, notes: Notes, lane: Lane, name: str, unchecked_through: int = 0) -> None:
        self.lane = lane
        self.name = name
        self._db = db
        self._notes = notes
        # Of an older format, which had no checksums.
        self._unchecked_through = unchecked_through
        self._insert = f"insert into {name} ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
        self._select = f"select {COLUMNS} from {name} where batch_no >= ? order by batch_no limit ?"  # noqa: S608 - our own names
        self._kept = f"select kept_ms from {name} where batch_no = ?"  # noqa: S608 - our own names
        self._spans = f"select device, min(from_ms), max(to_ms) from {name} where batch_no <= ? group by device"  # noqa: S608 - our own names
        self._sum = f"select coalesce(sum(length(payload)), 0) from {name} where batch_no <= ?"  # noqa: S608 - our own names
        self._delete = f"delete from {name} where batch_no <= ?"  # noqa: S608 - our own names
        self.tally = self._counted()
        self.newest: Row[StoredBatch] = ()

    def roll_back(self, tally: Tally) -> None:
        """What was done since it had this tally has not been committed."""
        self.tally, self.newest = tally, ()

    @property
    def oldest_no(self) -> int:
        """The number of the oldest batch, that of the next where there is none."""
        return self.tally.oldest_no

    @property
    def next_no(self) -> int:
        """The number of the next batch."""
        return self.tally.next_no

    @property
    def depth(self) -> int:
        """How many batches."""
        return self.tally.next_no - self.tally.oldest_no

    def append(self, kept: Row[KeptBatch]) -> None:
        """Gives the batches the next numbers."""
        numbered = [
            StoredBatch(number, batch.device, batch.payload, batch.from_ms, batch.to_ms, kept_ms)
            for number, (batch, kept_ms) in enumerate(kept, self.tally.next_no)
        ]
        self._db.executemany(self._insert, [self._row(batch) for batch in numbered])
        size_bytes = sum(len(batch.payload) for batch in numbered)
        oldest_no, next_no, bytes_before = self.tally
        self._count(Tally(oldest_no, next_no + len(numbered), bytes_before + size_bytes))
        self.newest = numbered if size_bytes <= _NEWEST_BYTES else ()

    def lost_with(self, batch_no: int, earliest_ms: int, now_ms: int) -> tuple[str | None, Gap]:
        """Whose readings a garbled batch held, None for anybody's, and when (ms) they were.

        Where the batch cannot say itself, its neighbours do.
        """
        (row,) = self._db.execute(self._select, (batch_no, 1)).fetchall()
        if (head := verified(row, self.name, head_alone=True)) is not None:
            return head.device, Gap(head.from_ms, head.to_ms, _GARBLED)
        near = self._db.execute(self._select, (batch_no - _NEAR, 2 * _NEAR)).fetchall()
        known = [batch for row in near if (batch := verified(row, self.name, head_alone=True)) is not None]
        before = [batch.from_ms for batch in known if batch.batch_no < batch_no]
        after = [batch.kept_ms for batch in known if batch.batch_no > batch_no]
        from_ms = min(before[-1:] or [earliest_ms])
        return None, Gap(from_ms, max(from_ms, *(after[:1] or [now_ms])), _GARBLED)

    def replace(self, batch_no: int, batch: Batch, kept_ms: int) -> None:
        """Puts another batch in the place of one."""
        stored = StoredBatch(batch_no, batch.device, batch.payload, batch.from_ms, batch.to_ms, kept_ms)
        size_bytes = self._bytes_through(batch_no) - self._bytes_through(batch_no - 1)
        self._db.execute(f"delete from {self.name} where batch_no = ?", (batch_no,))  # noqa: S608 - our own names
        self._db.execute(self._insert, self._row(stored))
        self.newest = ()
        self._count(self.tally._replace(size_bytes=self.tally.size_bytes - size_bytes + len(batch.payload)))

    def _row(self, b: StoredBatch) -> tuple[object, ...]:
        return b.batch_no, b.device, b.payload, b.from_ms, b.to_ms, b.kept_ms, b.checksum(self.name)

    def read_from(self, batch_no: int, limit: int) -> list[StoredBatch]:
        """Up to `limit` batches from a number on, in order.

        Raises GarbledBatchError for one that is, CorruptSpoolError where one is missing.
        """
        first = max(batch_no, self.oldest_no)
        expected = range(first, max(first, min(first + limit, self.next_no)))
        batches = [self._checked(row) for row in self._db.execute(self._select, (first, len(expected)))]
        if [batch.batch_no for batch in batches] != list(expected):
            raise CorruptSpoolError(f"{self.name} does not hold batches {expected.start} to {expected.stop - 1}")
        return batches

    def _checked(self, row: Row[Any]) -> StoredBatch:
        if row[-1] is None and row[0] <= self._unchecked_through:
            return StoredBatch(*row[:-1])
        if (batch := verified(row, self.name)) is None:
            raise GarbledBatchError(self.name, row[0])
        return batch

    def oldest_kept_ms(self) -> int | None:
        """When the oldest batch was kept; None where there is none."""
        if not self.depth:
            return None
        row: tuple[int] | None = self._db.execute(self._kept, (self.tally.oldest_no,)).fetchone()
        return None if row is None else row[0]

    def spans_through(self, batch_no: int) -> dict[str, tuple[int, int]]:
        """For each device, from when until when the readings up to a number reach."""
        return {device: (from_ms, to_ms) for device, from_ms, to_ms in self._db.execute(self._spans, (batch_no,))}

    def delete_through(self, batch_no: int) -> int:
        """Forgets every batch up to and including a number; returns how many."""
        oldest_no, next_no, size_bytes = self.tally
        through = min(batch_no, next_no - 1)
        if through < oldest_no:
            return 0
        self._count(Tally(through + 1, next_no, size_bytes - self._bytes_through(through)))
        return self._db.execute(self._delete, (through,)).rowcount

    def _count(self, tally: Tally) -> None:
        self._notes.put("table", self.name, f"{tally.oldest_no} {tally.next_no}")
        self.tally = tally

    def _counted(self) -> Tally:
        note = self._notes.all("table").get(self.name)
        if note is None:
            raise CorruptSpoolError(f"nothing is known of {self.name}")
        numbers = numbers_of(note)
        return Tally(numbers.start, numbers.stop, self._bytes_through(numbers.stop))

    def _bytes_through(self, batch_no: int) -> int:
        total: int = self._db.execute(self._sum, (batch_no,)).fetchone()[0]
        return total
