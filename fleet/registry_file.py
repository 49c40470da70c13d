"""The registry's file: its tables, made and brought up to date, and transactions in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError
from fleet.files import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATIENCE_S: Final = 10.0
_FIRST: Final = """
CREATE TABLE node (
    name TEXT PRIMARY KEY,
    of_group TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE TABLE token (
    node TEXT PRIMARY KEY REFERENCES node,
    sha256 TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    key_sha256 TEXT  -- of who used it
) STRICT;
CREATE TABLE certificate (
    serial TEXT PRIMARY KEY,  -- in hexadecimal: it has up to 160 bits
    name TEXT NOT NULL,
    key_sha256 TEXT NOT NULL,
    chain TEXT NOT NULL,
    ends_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX certificate_name ON certificate (name);
CREATE TABLE host (name TEXT PRIMARY KEY) STRICT;
CREATE TABLE counter (last INTEGER NOT NULL) STRICT;
INSERT INTO counter VALUES (0);
PRAGMA user_version = 1;
"""
# What has come since, from each version to the next: a home may be older than this.
_LATER: Final = (
    (
        # Whether a renewal has called it back, and when somebody has shown it after that.
        "ALTER TABLE certificate ADD COLUMN by_renewal INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE certificate ADD COLUMN shown_again_at INTEGER",
        "PRAGMA user_version = 2",
    ),
    (
        # Number of the certificate that was shown for it, of what a renewal has made.
        "ALTER TABLE certificate ADD COLUMN renewed_from TEXT",
        "PRAGMA user_version = 3",
    ),
)


def make(path: Path) -> None:
    """An empty one, its owner's alone; raises FleetError."""
    write_file(path, b"")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(_FIRST)


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction; raises FleetError, and for what the block raises does nothing of it."""
    try:
        # Mode rw: a file that has gone is not made anew, empty.
        name = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(name, timeout=_PATIENCE_S, isolation_level=None, uri=True)) as database:
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("BEGIN IMMEDIATE")
            with database:
                _bring_up_to_date(database)
                yield database
    except sqlite3.Error as exc:
        raise FleetError(f"{path}: {exc}") from exc


def _bring_up_to_date(database: sqlite3.Connection) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    for statements in _LATER[version - 1 :]:
        for statement in statements:
            database.execute(statement)
