"""The spool's database: opened so that a commit is on the disk, brought to this agent's format, its errors ours."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from edge.errors import CorruptSpoolError, SpoolError
from edge.spool.schema import FORMAT, bring_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A large spool is not read through at every start: what is spoilt beyond is found when it is met.
_CHECK_S: Final = 5.0
_CHECK_STEPS: Final = 10_000
_MOST_LOG_BYTES: Final = 4 << 20
_LEAST_LOG_BYTES: Final = 1 << 16
_LOG_SHARE: Final = 64


def connect(path: Path, *, is_new: bool = False) -> sqlite3.Connection:
    """A spool's database, which is empty only where it is new.

    Raises CorruptSpoolError for a file that is none, SpoolError when the disk does not take one.
    """
    with translated(path), contextlib.ExitStack() as undo:
        db = undo.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
        # A garbled name is for the checksum to find, not for the decoder.
        db.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
        if is_new:
            # It counts only before the first table, and before WAL writes the first page; later it would be a write.
            db.execute("pragma auto_vacuum = incremental")
        db.execute("pragma journal_mode = wal")
        # NORMAL would lose the last commits when the power fails.
        db.execute("pragma synchronous = full")
        # Debian's SQLite overwrites what is deleted: twice the wear of a memory card.
        db.execute("pragma secure_delete = off")
        db.execute("pragma cache_size = -1024")
        log_bytes = most_log_bytes(path)
        page_bytes = db.execute("pragma page_size").fetchone()[0]
        db.execute(f"pragma wal_autocheckpoint = {log_bytes // page_bytes}")
        db.execute(f"pragma journal_size_limit = {log_bytes}")
        version = db.execute("pragma user_version").fetchone()[0]
        if version not in range(FORMAT + 1):
            raise CorruptSpoolError(f"spool {path}: has format {version}, this agent knows {FORMAT}")
        if not (version or is_new):
            raise CorruptSpoolError(f"spool {path}: is empty")
        if version and (verdict := _check(db)) != "ok":
            raise CorruptSpoolError(f"spool {path}: {verdict}")
        if version < FORMAT:
            bring_up(db, version)
        undo.pop_all()
        return db


def most_log_bytes(path: Path) -> int:
    """How large the log beside a spool's file may grow before it is written into the file: little on a small disk."""
    disk = os.statvfs(path.parent)
    return min(_MOST_LOG_BYTES, max(_LEAST_LOG_BYTES, disk.f_blocks * disk.f_frsize // _LOG_SHARE))


def _check(db: sqlite3.Connection) -> str:
    """What SQLite finds wrong in a few seconds, "ok" for nothing."""
    until_s = time.monotonic() + _CHECK_S
    db.set_progress_handler(lambda: time.monotonic() > until_s, _CHECK_STEPS)
    try:
        verdict: str = db.execute("pragma quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return "ok"
    finally:
        db.set_progress_handler(None, 0)
    return verdict


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's and the file system's errors as ours; those that say that the file is spoilt as CorruptSpoolError."""
    try:
        yield
    except sqlite3.Error as exc:
        # The low byte is the error, the others its details.
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        tables_differ = code == sqlite3.SQLITE_ERROR and re.search("no such|already exists", str(exc))
        unreadable = getattr(exc, "sqlite_errorcode", 0) in {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}
        spoilt = code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or tables_differ or unreadable
        error = CorruptSpoolError if spoilt else SpoolError
        remedy = ": free space there" if code == sqlite3.SQLITE_FULL else ""
        raise error(f"spool {path}: {exc}{remedy}") from exc
    except UnicodeDecodeError as exc:
        # An error of which SQLite's own words are garbled.
        raise CorruptSpoolError(f"spool {path}: {exc}") from exc
    except OSError as exc:
        raise SpoolError(f"spool {path}: {exc.strerror}") from exc
