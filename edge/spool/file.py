"""The spool's file: SQLite in WAL mode, every commit on the disk before it is believed. Used by one thread."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.batch import NODE
from edge.errors import SpoolError
from edge.lane import Lane
from edge.spool.connection import translated
from edge.spool.database import Database
from edge.spool.dating import dated_gap, in_utc, to_utc
from edge.spool.eviction import evict
from edge.spool.held import Held
from edge.spool.salvage import Salvage
from edge.spool.schema import dated_table, undated_table
from edge.spool.sequence import BatchTable, Extent, KeptBatch, StoredBatch
from edge.spool.undated import Undated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from contract.delivery import Gap
    from edge.batch import Batch
    from edge.spool.salvage import Haul

    Declare = Callable[[str, Gap], Batch]


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How large the file grows, and how much it leaves free on the disk for others."""

    max_bytes: int
    min_free_bytes: int = 0


class SpoolFile:
    """One open spool file. Every method is a whole transaction; raises SpoolError when the disk does not take it.

    `base_epoch` stands in its name, and tells every lane's epoch. `boot_id` tells this boot from others.
    """

    def __init__(
        self, path: Path, base_epoch: int, limits: FileLimits, boot_id: str = "", *, is_new: bool = False
    ) -> None:
        self.base_epoch = base_epoch
        self.path = path
        self._limits = limits
        self._boot_id = boot_id
        self._open(is_new=is_new)
        self.stopped_cleanly = bool(self._notes.number("state", "clean_stop"))
        # Whether the power may have failed, and a disk that lies about writing have lost what it had confirmed.
        self.was_cut_off = not self.stopped_cleanly and self._notes.all("state").get("boot_id", boot_id) != boot_id
        # For each device, from when on readings would be lost if the file could not be read any more.
        self.kept_since = dict.fromkeys(self.last_sampled(), base_epoch)

    def _open(self, *, is_new: bool = False) -> None:
        self._database = Database(self.path, is_new=is_new)
        sql, self._notes = self._database.sql, self._database.notes
        unchecked = {Lane.LIVE: self._notes.number("state", "unchecked_through")}
        try:
            with translated(self.path):
                self._lanes = {
                    lane: BatchTable(sql, self._notes, lane, dated_table(lane), unchecked.get(lane, 0)) for lane in Lane
                }
                undated = {lane: BatchTable(sql, self._notes, lane, undated_table(lane)) for lane in Lane}
        except SpoolError:
            sql.close()
            raise
        self._undated = Undated(self._notes, undated, self._boot_id)
        # The most urgent first; of a lane what is dated, and hence older, goes before what is not.
        self._tables = [table for lane in Lane for table in (undated[lane], self._lanes[lane])]

    def append(
        self,
        batches: Sequence[Batch],
        now_ms: int,
        declare: Declare,
        *,
        booted_ms: int | None = 0,
        forget: Mapping[Lane, int] | None = None,
    ) -> int:
        """Keeps the batches, evicting the least urgent where there is no room; returns how many were evicted.

        While it is not known when (UTC ms) the machine was booted they are kept undated. What is evicted is declared,
        for each device, by the batch that `declare` makes of a gap. What is durable is forgotten, up to a number
        for each lane, in the same commit: commits are what a memory card wears out by.
        """
        with self._transaction():
            for lane, through in (forget or {}).items():
                self._lanes[lane].delete_through(through)
            was_empty = not any(table.depth for table in self._tables)
            with self._room(now_ms, declare, booted_ms) as evicted:
                self._keep(batches, now_ms, booted_ms)
            self._notes.put("state", "clean_stop", 0)
            self._notes.put("state", "boot_id", self._boot_id)
        self._note_kept(batches, booted_ms, anew=was_empty)
        self._database.give_disk_back()
        return evicted[0]

    def take_over(
        self, haul: Haul, salvage: Salvage, now_ms: int, declare: Declare, *, booted_ms: int | None = 0
    ) -> int:
        """Keeps what one step of a salvage brought, and how far it has come; returns how many were evicted."""
        with self._transaction():
            with self._room(now_ms, declare, booted_ms) as evicted:
                self._insert(haul.kept)
                self._undated.keep(haul.undated, now_ms, self.newest_kept_ms, boot_id="unknown")
                gaps = [(device, gap if booted_ms is None else dated_gap(gap, booted_ms)) for device, gap in haul.gaps]
                self._keep([declare(device, gap) for device, gap in gaps], now_ms, booted_ms)
            self._write(salvage)
        return evicted[0]

    @contextlib.contextmanager
    def _room(self, now_ms: int, declare: Declare, booted_ms: int | None) -> Iterator[list[int]]:
        """Makes room for what is kept meanwhile, and says afterwards how many batches were evicted for it."""
        room_bytes = self._database.room_bytes(self._limits.max_bytes, self._limits.min_free_bytes)
        first_new = {table.name: table.next_no for table in self._tables}
        yield (count := [0])
        count[0], lost = evict(self._tables, lambda: self._database.used_bytes() <= room_bytes, first_new)
        declared = [entry for table, gaps in lost for entry in self._undated.lost(table, gaps, booted_ms)]
        self._keep([declare(device, gap) for device, gap in declared], now_ms, booted_ms)

    def note_salvage(self, salvage: Salvage) -> None:
        """Takes note of a file that is to be salvaged."""
        with self._transaction():
            self._write(salvage)

    def _write(self, salvage: Salvage) -> None:
        self._notes.put("salvage", salvage.name, salvage.to_json())

    def salvages(self) -> dict[str, Salvage]:
        """The files that are to be salvaged, by their names."""
        return {name: Salvage.from_json(str(progress)) for name, progress in self._notes.all("salvage").items()}

    def forget_salvage(self, name: str) -> None:
        """Takes note that a file has been salvaged."""
        with self._transaction():
            self._notes.remove("salvage", name)

    def _keep(self, batches: Sequence[Batch], now_ms: int, booted_ms: int | None) -> None:
        if booted_ms is None:
            self._undated.keep(batches, now_ms, self.newest_kept_ms)
        else:
            self._insert([KeptBatch(in_utc(batch, booted_ms), now_ms) for batch in batches])

    def _insert(self, kept: Sequence[KeptBatch]) -> None:
        for lane, table in self._lanes.items():
            if theirs := [entry for entry in kept if entry.batch.lane is lane]:
                table.append(theirs)
        for batch, kept_ms in kept:
            self._notes.put("device", batch.device, max(batch.from_ms, self._notes.number("device", batch.device)))
            self._notes.put("state", "newest_kept_ms", max(kept_ms, self.newest_kept_ms))

    def _note_kept(self, batches: Sequence[Batch], booted_ms: int | None, *, anew: bool) -> None:
        known = {} if anew else {device: to_utc(at_ms, booted_ms or 0) for device, at_ms in self.kept_since.items()}
        for batch in batches:
            known.setdefault(batch.device, to_utc(batch.from_ms, booted_ms or 0))
        self.kept_since = known

    def date_some(self, booted_ms: int, now_ms: int, declare: Declare) -> int:
        """Dates some of the undated batches, given when (UTC ms) the machine was booted; returns how many."""
        with self._transaction():
            kept, gaps = self._undated.take_some(booted_ms)
            self._insert(kept)
            self._keep([declare(device, gap) for device, gap in gaps.items()], now_ms, booted_ms)
        return len(kept)

    @property
    def undated(self) -> int:
        """How many batches wait for UTC."""
        return self._undated.depth

    @property
    def is_virgin(self) -> bool:
        """Whether no batch has ever had a number here."""
        return all(table.next_no == 1 for table in self._lanes.values())

    @property
    def newest_kept_ms(self) -> int:
        """Until when (UTC ms) batches have been kept."""
        return self._notes.number("state", "newest_kept_ms")

    def read_from(self, lane: Lane, batch_no: int, limit: int) -> list[StoredBatch]:
        """Up to `limit` batches of a lane from a number on, in order; raises CorruptSpoolError for a garbled one."""
        with translated(self.path):
            return self._lanes[lane].read_from(batch_no, limit)

    def heal(self, lane: Lane, batch_no: int, now_ms: int, declare: Declare, *, booted_ms: int | None = 0) -> None:
        """Puts a declared gap in the place of a batch that is garbled."""
        table = self._lanes[lane]
        with self._transaction():
            whose, gap = table.lost_with(batch_no, self.base_epoch, now_ms)
            devices = [whose] if whose is not None else sorted(self.last_sampled()) or [NODE]
            first, *others = [declare(device, gap) for device in devices]
            table.replace(batch_no, first, now_ms)
            self._keep(others, now_ms, booted_ms)

    def delete_through(self, through: Mapping[Lane, int]) -> None:
        """Forgets every batch up to and including a number, in each lane named."""
        with self._transaction():
            for lane, batch_no in through.items():
                self._lanes[lane].delete_through(batch_no)
        self._database.give_disk_back()

    def extents(self) -> dict[Lane, Extent]:
        """What each lane holds."""
        with translated(self.path):
            return {lane: self._extent(lane, table) for lane, table in self._lanes.items()}

    def held(self) -> Held:
        """The same, and what was committed last."""
        return Held(self.extents(), {lane: table.newest for lane, table in self._lanes.items()})

    def _extent(self, lane: Lane, table: BatchTable) -> Extent:
        return Extent(lane.epoch(self.base_epoch), *table.tally, table.oldest_kept_ms())

    def lane_of(self, epoch: int) -> Lane | None:
        """Which lane has an epoch; none for that of another spool."""
        return next((lane for lane in Lane if lane.epoch(self.base_epoch) == epoch), None)

    def last_sampled(self) -> dict[str, int]:
        """For each device, from when on (UTC ms) readings were not spooled yet when the last batch was kept."""
        return {name: int(last_ms) for name, last_ms in self._notes.all("device").items()}

    def next_bd_seq(self) -> int:
        """The birth and death number of the next connection: 0 to 255 and round again."""
        with self._transaction():
            next_bd_seq = (self._notes.number("state", "next_bd_seq") + 1) % 256
            self._notes.put("state", "next_bd_seq", next_bd_seq)
        return (next_bd_seq - 1) % 256

    def renew(self, now_ms: int) -> None:
        """Takes higher epochs, and the name that goes with them, for the same batches."""
        base_epoch = max(now_ms, self.base_epoch + len(Lane))
        self._database.close_whole()
        try:
            with translated(self.path):
                self.path = self.path.rename(spool_path(self.path.parent, base_epoch))
            self.base_epoch = base_epoch
        finally:
            self._open()

    def close(self, *, clean: bool) -> None:
        """Closes the file; `clean` says that nothing polled is missing from it."""
        try:
            with self._transaction():
                self._notes.put("state", "clean_stop", int(clean))
        finally:
            self._database.sql.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        tallies = [table.tally for table in self._tables]
        try:
            with self._database.transaction():
                yield
        except BaseException:
            for table, tally in zip(self._tables, tallies, strict=True):
                table.roll_back(tally)
            raise


def spool_path(directory: Path, epoch: int) -> Path:
    """Where a spool lies. Its name tells its base epoch, so that it is known even of a file that cannot be read."""
    return directory / f"spool-{epoch}.db"
