"""The spool's file: SQLite in WAL mode, every commit on the disk before it is believed. Used by one thread.

Batches are numbered from 1 without holes within an epoch, across restarts and even when none is left.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.delivery import Gap
from edge.errors import CorruptSpoolError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from edge.batch import Batch

# At least so much of the spool goes at once when it is full, so that gaps are few.
_EVICTED_SHARE: Final = 20
_VACUUM_FROM_PAGES: Final = 1024
_VERSION: Final = 1
_SCHEMA: Final = """
create table batch (
  batch_no integer primary key,
  device   text not null,
  payload  blob not null,
  from_ms  integer not null,
  to_ms    integer not null,
  kept_ms  integer not null
);
create table device (name text primary key, last_ms integer not null);
create table state (key text primary key, value integer not null);
insert into state values ('next_batch_no', 1), ('bd_seq', -1), ('clean_stop', 0);
pragma user_version = 1;
"""


_DELETE_THROUGH: Final = "delete from batch where batch_no <= ?"


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch with its number; `kept_ms` is when (UTC ms) the spool took it."""

    batch_no: int
    device: str
    payload: bytes
    from_ms: int
    to_ms: int
    kept_ms: int


@dataclass(frozen=True, slots=True)
class Extent:
    """What the spool holds: batches `oldest` up to but not including `next_no`; equal when it is empty."""

    epoch: int
    oldest: int
    next_no: int
    size_bytes: int
    oldest_kept_ms: int | None

    @property
    def depth(self) -> int:
        """How many batches."""
        return self.next_no - self.oldest


class SpoolFile:
    """One open spool file. Every method is a whole transaction; raises SpoolError when the disk does not take it."""

    def __init__(self, path: Path, epoch: int, max_bytes: int) -> None:
        self.epoch = epoch
        self.path = path
        # The epoch of the first spool that was set aside in opening this one.
        self.spoilt_since_ms: int | None = None
        self._max_bytes = max_bytes
        self._db = _connect(path)
        self.stopped_cleanly = bool(self._state("clean_stop"))
        self._next_no = self._state("next_batch_no")
        self._page_bytes: int = self._db.execute("pragma page_size").fetchone()[0]
        # For each device, from when on (UTC ms) readings would be lost if the file could not be read any more.
        self.kept_since = dict.fromkeys(self.last_sampled(), epoch)

    def append(
        self,
        batches: Sequence[Batch],
        now_ms: int,
        declare: Callable[[str, Gap], Batch],
        *,
        forget_through: int = 0,
    ) -> int:
        """Keeps the batches, evicting the oldest where there is no room; returns how many were evicted.

        What is evicted is declared, for each device, by the batch that `declare` makes of a gap. What is durable is
        forgotten in the same commit, for commits are what a memory card wears out by.
        """
        with self._transaction():
            self._db.execute(_DELETE_THROUGH, (forget_through,))
            was_empty = self._db.execute("select 1 from batch limit 1").fetchone() is None
            next_no = self._insert(self._next_no, batches, now_ms)
            evicted, gaps = self._make_room(first_new=self._next_no)
            next_no = self._insert(next_no, [declare(device, gap) for device, gap in gaps.items()], now_ms)
            self._set_state("next_batch_no", next_no)
            self._set_state("clean_stop", 0)
        self._next_no = next_no
        self._note_kept(batches, anew=was_empty)
        self._give_disk_back()
        return evicted

    def _note_kept(self, batches: Sequence[Batch], *, anew: bool) -> None:
        if anew:
            self.kept_since.clear()
        for batch in batches:
            self.kept_since[batch.device] = min(batch.from_ms, self.kept_since.get(batch.device, batch.from_ms))

    def read_from(self, batch_no: int, limit: int) -> list[StoredBatch]:
        """Up to `limit` batches from a number on, in order."""
        query = "select * from batch where batch_no >= ? order by batch_no limit ?"
        with translated(self.path):
            return [StoredBatch(*row) for row in self._db.execute(query, (batch_no, limit))]

    def delete_through(self, batch_no: int) -> None:
        """Forgets every batch up to and including a number."""
        with self._transaction():
            self._db.execute(_DELETE_THROUGH, (batch_no,))
        self._give_disk_back()

    def _give_disk_back(self) -> None:
        """Makes the file smaller after an outage, a little at a time."""
        if self._pragma("freelist_count") > _VACUUM_FROM_PAGES:
            with translated(self.path):
                # `execute` would step it once, and free a single page.
                self._db.executescript(f"pragma incremental_vacuum({_VACUUM_FROM_PAGES // 2})")

    def extent(self) -> Extent:
        """What it holds."""
        with translated(self.path):
            row = self._db.execute("select batch_no, kept_ms from batch order by batch_no limit 1").fetchone()
        oldest, kept_ms = row or (self._next_no, None)
        return Extent(self.epoch, oldest, self._next_no, self._used_bytes(), kept_ms)

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
        """Takes a higher epoch, and the name that goes with it, for the same batches."""
        epoch = max(now_ms, self.epoch + 1)
        with translated(self.path):
            # What the log beside the file holds would not move with it.
            if self._db.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
                raise SpoolError(f"spool {self.path}: is in use by another program")
            self._db.close()
            try:
                self.path = self.path.rename(spool_path(self.path.parent, epoch))
                self.epoch = epoch
            finally:
                self._db = _connect(self.path)

    def close(self, *, clean: bool) -> None:
        """Closes the file; `clean` says that nothing polled is missing from it."""
        try:
            with self._transaction():
                self._set_state("clean_stop", int(clean))
        finally:
            self._db.close()

    def _insert(self, next_no: int, batches: Sequence[Batch], now_ms: int) -> int:
        rows = [
            (number, batch.device, batch.payload, batch.from_ms, batch.to_ms, now_ms)
            for number, batch in enumerate(batches, next_no)
        ]
        self._db.executemany("insert into batch values (?, ?, ?, ?, ?, ?)", rows)
        self._db.executemany(
            "insert into device values (?, ?) "
            "on conflict (name) do update set last_ms = max(last_ms, excluded.last_ms)",
            [(batch.device, batch.from_ms) for batch in batches],
        )
        return next_no + len(rows)

    def _make_room(self, *, first_new: int) -> tuple[int, dict[str, Gap]]:
        """Evicts the oldest batches, never one just added, until what is left fits."""
        evicted, gaps = 0, dict[str, Gap]()
        while self._used_bytes() > self._max_bytes:
            oldest = self._db.execute("select min(batch_no) from batch").fetchone()[0]
            through = min(oldest + max(1, (first_new - oldest) // _EVICTED_SHARE), first_new) - 1
            if through < oldest:
                break
            evicted += self._evict(through, gaps)
        return evicted, gaps

    def _evict(self, through: int, gaps: dict[str, Gap]) -> int:
        spans = "select device, min(from_ms), max(to_ms) from batch where batch_no <= ? group by device"
        for device, from_ms, to_ms in self._db.execute(spans, (through,)):
            widen(gaps, device, Gap(from_ms, to_ms, "spool full"))
        return self._db.execute(_DELETE_THROUGH, (through,)).rowcount

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
        with translated(self.path):
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                # A full disk has rolled back already, and a second roll-back would hide that it was full.
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise


def spool_path(directory: Path, epoch: int) -> Path:
    """Where a spool lies. Its name tells its epoch, so that it is known even of a file that cannot be read."""
    return directory / f"spool-{epoch}.db"


def widen(gaps: dict[str, Gap], device: str, gap: Gap) -> None:
    """Makes a device's gap reach over another one too."""
    known = gaps.get(device, gap)
    gaps[device] = Gap(min(known.from_ms, gap.from_ms), max(known.to_ms, gap.to_ms), gap.reason)


def _connect(path: Path) -> sqlite3.Connection:
    with translated(path), contextlib.ExitStack() as undo:
        db = undo.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
        # auto_vacuum counts only before the first table, and before WAL writes the first page.
        db.execute("pragma auto_vacuum = incremental")
        db.execute("pragma journal_mode = wal")
        # NORMAL would lose the last commits when the power fails.
        db.execute("pragma synchronous = full")
        db.execute("pragma cache_size = -1024")
        db.execute("pragma journal_size_limit = 4194304")
        version = db.execute("pragma user_version").fetchone()[0]
        if version == 0:
            db.executescript(f"begin immediate; {_SCHEMA} commit;")
        elif version != _VERSION:
            raise CorruptSpoolError(f"spool {path}: has format {version}, this agent knows {_VERSION}")
        elif (verdict := db.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
            raise CorruptSpoolError(f"spool {path}: {verdict}")
        undo.pop_all()
        return db


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's and the file system's errors as ours; those that say that the file is spoilt as CorruptSpoolError."""
    try:
        yield
    except sqlite3.Error as exc:
        # The low byte is the error, the others its details.
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        tables_differ = code == sqlite3.SQLITE_ERROR and re.search("no such|already exists", str(exc))
        spoilt = code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or tables_differ
        error = CorruptSpoolError if spoilt else SpoolError
        remedy = ": free space there" if code == sqlite3.SQLITE_FULL else ""
        raise error(f"spool {path}: {exc}{remedy}") from exc
    except OSError as exc:
        raise SpoolError(f"spool {path}: {exc.strerror}") from exc
