"""The spool's database: a commit is on the disk, errors are ours, and what it needs no more goes back to the disk."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from edge.errors import SpoolError
from edge.spool.connection import connect, most_log_bytes, translated
from edge.spool.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_VACUUM_FROM_PAGES: Final = 1024
# Of a small file system no more than this share is kept free.
_FREE_SHARE: Final = 20


class Database:
    """One open file. Raises SpoolError when the disk does not take what it is given."""

    def __init__(self, path: Path, *, is_new: bool = False) -> None:
        self.path = path
        self.sql = connect(path, is_new=is_new)
        self._log = path.with_name(f"{path.name}-wal")
        self._most_log_bytes = most_log_bytes(path)
        try:
            with translated(path):
                self.notes = Notes(self.sql)
                self._page_bytes: int = self.sql.execute("pragma page_size").fetchone()[0]
        except SpoolError:
            self.sql.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        known = self.notes.known()
        with translated(self.path):
            self.sql.execute("begin immediate")
            try:
                yield
                self.sql.execute("commit")
            except BaseException:
                self.notes.restore(known)
                # A full disk has rolled back already, and a second roll-back would hide that it was full.
                if self.sql.in_transaction:
                    self.sql.execute("rollback")
                raise

    def used_bytes(self) -> int:
        """What the file holds, without what is free in it."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._page_bytes

    def room_bytes(self, max_bytes: int, min_free_bytes: int) -> int:
        """How much the file may hold: what is allowed, but no more than it takes now where the disk has little left."""
        if not min_free_bytes:
            return max_bytes
        disk = os.statvfs(self.path.parent)
        reserve_bytes = min(min_free_bytes, disk.f_blocks * disk.f_frsize // _FREE_SHARE)
        # One commit may take it beyond its bound.
        log_growth_bytes = max(0, 2 * self._most_log_bytes - self._log.stat().st_size)
        spare_bytes = disk.f_bavail * disk.f_frsize - reserve_bytes - log_growth_bytes
        now_bytes = self._pragma("page_count") * self._page_bytes
        return min(max_bytes, max(now_bytes, self.path.stat().st_size + spare_bytes))

    def give_disk_back(self) -> None:
        """Makes the file smaller after an outage, a little at a time."""
        if self._pragma("freelist_count") > _VACUUM_FROM_PAGES:
            with translated(self.path):
                # `execute` would step it once, and free a single page.
                self.sql.executescript(f"pragma incremental_vacuum({_VACUUM_FROM_PAGES // 2})")

    def close_whole(self) -> None:
        """Closes the file with nothing left in the log beside it, so that it can be given another name."""
        with translated(self.path):
            if self.sql.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
                raise SpoolError(f"spool {self.path}: is in use by another program")
            self.sql.close()

    def _pragma(self, name: str) -> int:
        with translated(self.path):
            value: int = self.sql.execute(f"pragma {name}").fetchone()[0]
        return value
