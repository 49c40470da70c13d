"""The spool's file: SQLite in WAL mode, every commit on the disk before it is believed. Used by one thread."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from contract.delivery import Gap
from edge.errors import CorruptSpoolError, SpoolError
from edge.lane import Lane
from edge.spool.connection import connect, translated
from edge.spool.sequence import Extent, LaneSequence, StoredBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from edge.batch import Batch

# At least so much of a lane goes at once when the spool is full, so that gaps are few.
_EVICTED_SHARE: Final = 20
_VACUUM_FROM_PAGES: Final = 1024
# Of a small file system no more than this share is kept free.
_FREE_SHARE: Final = 20


class SpoolFile:
    """One open spool file. Every method is a whole transaction; raises SpoolError when the disk does not take it.

    `base_epoch` stands in its name, and tells every lane's epoch.
    """

    def __init__(self, path: Path, base_epoch: int, max_bytes: int, min_free_bytes: int = 0) -> None:
        self.base_epoch = base_epoch
        self.path = path
        # The epoch of the first spool that was set aside in opening this one.
        self.spoilt_since_ms: int | None = None
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._db = connect(path)
        with translated(path):
            self._page_bytes: int = self._db.execute("pragma page_size").fetchone()[0]
        self.stopped_cleanly = bool(self._state("clean_stop"))
        self._lanes = self._open_lanes()
        # For each device, from when on (UTC ms) readings would be lost if the file could not be read any more.
        self.kept_since = dict.fromkeys(self.last_sampled(), base_epoch)

    def _open_lanes(self) -> dict[Lane, LaneSequence]:
        with translated(self.path):
            next_no = dict(self._db.execute("select lane, next_no from sequence"))
            unchecked_through = self._state("unchecked_through")
            if any(lane not in next_no for lane in Lane):
                raise CorruptSpoolError(f"spool {self.path}: lanes are missing")
            return {
                lane: LaneSequence(self._db, lane, next_no[lane], unchecked_through if lane is Lane.LIVE else 0)
                for lane in Lane
            }

    def append(
        self,
        batches: Sequence[Batch],
        now_ms: int,
        declare: Callable[[str, Gap], Batch],
        *,
        forget: Mapping[Lane, int] | None = None,
    ) -> int:
        """Keeps the batches, evicting the least urgent where there is no room; returns how many were evicted.

        What is evicted is declared, for each device, by the batch that `declare` makes of a gap. What is durable is
        forgotten, up to a number for each lane, in the same commit: commits are what a memory card wears out by.
        """
        with self._transaction():
            for lane, through in (forget or {}).items():
                self._lanes[lane].delete_through(through)
            was_empty = all(extent.depth == 0 for extent in self._extents().values())
            room_bytes = self._room_bytes()
            first_new = {lane: sequence.next_no for lane, sequence in self._lanes.items()}
            self._insert(batches, now_ms)
            evicted, gaps = self._make_room(room_bytes, first_new)
            self._insert([declare(device, gap) for device, gap in gaps.items()], now_ms)
            self._set_state("clean_stop", 0)
        self._note_kept(batches, anew=was_empty)
        self._give_disk_back()
        return evicted

    def _note_kept(self, batches: Sequence[Batch], *, anew: bool) -> None:
        if anew:
            self.kept_since.clear()
        for batch in batches:
            self.kept_since[batch.device] = min(batch.from_ms, self.kept_since.get(batch.device, batch.from_ms))

    def read_from(self, lane: Lane, batch_no: int, limit: int) -> list[StoredBatch]:
        """Up to `limit` batches of a lane from a number on, in order."""
        with translated(self.path):
            return self._lanes[lane].read_from(batch_no, limit)

    def delete_through(self, through: Mapping[Lane, int]) -> None:
        """Forgets every batch up to and including a number, in each lane named."""
        with self._transaction():
            for lane, batch_no in through.items():
                self._lanes[lane].delete_through(batch_no)
        self._give_disk_back()

    def _give_disk_back(self) -> None:
        """Makes the file smaller after an outage, a little at a time."""
        if self._pragma("freelist_count") > _VACUUM_FROM_PAGES:
            with translated(self.path):
                # `execute` would step it once, and free a single page.
                self._db.executescript(f"pragma incremental_vacuum({_VACUUM_FROM_PAGES // 2})")

    def extents(self) -> dict[Lane, Extent]:
        """What each lane holds."""
        with translated(self.path):
            return self._extents()

    def _extents(self) -> dict[Lane, Extent]:
        extents = {}
        for lane, sequence in self._lanes.items():
            oldest, kept_ms = sequence.oldest()
            next_no, size_bytes = sequence.tally
            extents[lane] = Extent(lane.epoch(self.base_epoch), oldest, next_no, size_bytes, kept_ms)
        return extents

    def lane_of(self, epoch: int) -> Lane | None:
        """Which lane has an epoch; none for that of another spool."""
        return next((lane for lane in Lane if lane.epoch(self.base_epoch) == epoch), None)

    def last_sampled(self) -> dict[str, int]:
        """For each device, from when on (UTC ms) readings were not spooled yet when the last batch was kept."""
        with translated(self.path):
            return dict(self._db.execute("select name, last_ms from device"))

    def next_bd_seq(self) -> int:
        """The birth and death number of the next connection: 0 to 255 and round again."""
        with self._transaction():
            bd_seq = (self._state("bd_seq") + 1) % 256
            self._set_state("bd_seq", bd_seq)
        return bd_seq

    def renew(self, now_ms: int) -> None:
        """Takes higher epochs, and the name that goes with them, for the same batches."""
        base_epoch = max(now_ms, self.base_epoch + len(Lane))
        with translated(self.path):
            # What the log beside the file holds would not move with it.
            if self._db.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
                raise SpoolError(f"spool {self.path}: is in use by another program")
            self._db.close()
            try:
                self.path = self.path.rename(spool_path(self.path.parent, base_epoch))
                self.base_epoch = base_epoch
            finally:
                self._db = connect(self.path)
                self._lanes = self._open_lanes()

    def close(self, *, clean: bool) -> None:
        """Closes the file; `clean` says that nothing polled is missing from it."""
        try:
            with self._transaction():
                self._set_state("clean_stop", int(clean))
        finally:
            self._db.close()

    def _insert(self, batches: Sequence[Batch], now_ms: int) -> None:
        for lane, sequence in self._lanes.items():
            if theirs := [batch for batch in batches if batch.lane is lane]:
                sequence.append(theirs, now_ms)
        self._db.executemany(
            "insert into device values (?, ?) "
            "on conflict (name) do update set last_ms = max(last_ms, excluded.last_ms)",
            [(batch.device, batch.from_ms) for batch in batches],
        )

    def _room_bytes(self) -> int:
        """How much the file may use: what is allowed, but no more than now where the disk has little left."""
        if not self._min_free_bytes:
            return self._max_bytes
        disk = os.statvfs(self.path.parent)
        reserve_bytes = min(self._min_free_bytes, disk.f_blocks * disk.f_frsize // _FREE_SHARE)
        spare_bytes = disk.f_bavail * disk.f_frsize - reserve_bytes
        return min(self._max_bytes, self._pragma("page_count") * self._page_bytes + max(0, spare_bytes))

    def _make_room(self, room_bytes: int, first_new: Mapping[Lane, int]) -> tuple[int, dict[str, Gap]]:
        """Evicts the least urgent lane's oldest batches until what is left fits; never all that was just added."""
        evicted, gaps = 0, dict[str, Gap]()
        while self._used_bytes() > room_bytes:
            held = [lane for lane, extent in self._extents().items() if extent.depth]
            if not held:
                break
            sequence = self._lanes[held[-1]]
            oldest, _ = sequence.oldest()
            end = first_new[held[-1]] if len(held) == 1 else sequence.next_no
            if oldest >= end:
                break
            through = oldest + max(1, (end - oldest) // _EVICTED_SHARE) - 1
            for device, (from_ms, to_ms) in sequence.spans_through(through).items():
                widen(gaps, device, Gap(from_ms, to_ms, "spool full"))
            evicted += sequence.delete_through(through)
        return evicted, gaps

    def _used_bytes(self) -> int:
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._page_bytes

    def _pragma(self, name: str) -> int:
        with translated(self.path):
            value: int = self._db.execute(f"pragma {name}").fetchone()[0]
        return value

    def _state(self, key: str) -> int:
        with translated(self.path):
            row = self._db.execute("select value from state where key = ?", (key,)).fetchone()
        if row is None:
            raise CorruptSpoolError(f"spool {self.path}: no state {key!r}")
        value: int = row[0]
        return value

    def _set_state(self, key: str, value: int) -> None:
        self._db.execute("update state set value = ? where key = ?", (value, key))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        tallies = {lane: sequence.tally for lane, sequence in self._lanes.items()}
        with translated(self.path):
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                for lane, tally in tallies.items():
                    self._lanes[lane].tally = tally
                # A full disk has rolled back already, and a second roll-back would hide that it was full.
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise


def spool_path(directory: Path, epoch: int) -> Path:
    """Where a spool lies. Its name tells its base epoch, so that it is known even of a file that cannot be read."""
    return directory / f"spool-{epoch}.db"


def widen(gaps: dict[str, Gap], device: str, gap: Gap) -> None:
    """Makes a device's gap reach over another one too."""
    known = gaps.get(device, gap)
    gaps[device] = Gap(min(known.from_ms, gap.from_ms), max(known.to_ms, gap.to_ms), gap.reason)
