"""What stands in a spool's file, and how a file of an older format is brought to this one."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from edge.lane import Lane

if TYPE_CHECKING:
    import sqlite3

FORMAT: Final = 2


def dated_table(lane: Lane) -> str:
    """Where a lane's batches lie, numbered as the bridge knows them."""
    return lane.name.lower()


def undated_table(lane: Lane) -> str:
    """Where those of its batches lie whose times are since boot, numbered for this file alone."""
    return f"undated_{lane.name.lower()}"


TABLES: Final = (*map(dated_table, Lane), *map(undated_table, Lane))

# The payload stands last: what stands behind a long one can only be read by reading it.
_BATCHES: Final = """
create table {} (
  batch_no integer primary key,
  device   text not null,
  from_ms  integer not null,
  to_ms    integer not null,
  kept_ms  integer not null,
  checksum integer,
  payload  blob not null
);
"""
_NOTES: Final = """
create table note (
  kind  text not null,
  key   text not null,
  value not null,
  crc32 integer not null,
  primary key (kind, key)
);
"""
_NUMBERS: Final = "insert into note values ('table', '{0}', '1 1', note_crc32('table', '{0}', '1 1'));"
# Format 1 had one sequence, without checksums: it becomes lane LIVE, where it lies.
_FROM_FORMAT_1: Final = """
alter table batch rename to live;
alter table live add column checksum integer;
insert into note
select 'state', 'next_bd_seq', (value + 1) % 256, note_crc32('state', 'next_bd_seq', (value + 1) % 256)
from state where key = 'bd_seq';
insert into note
select 'state', key, value, note_crc32('state', key, value) from state where key = 'clean_stop';
insert into note select 'device', name, last_ms, note_crc32('device', name, last_ms) from device;
insert into note
select 'state', 'newest_kept_ms', kept_ms, note_crc32('state', 'newest_kept_ms', kept_ms)
from (select coalesce(max(kept_ms), 0) as kept_ms from live);
insert into note
select 'state', 'unchecked_through', value - 1, note_crc32('state', 'unchecked_through', value - 1)
from state where key = 'next_batch_no';
insert into note
select 'table', 'live', numbers, note_crc32('table', 'live', numbers)
from (
  select coalesce((select min(batch_no) from live), value) || ' ' || value as numbers
  from state where key = 'next_batch_no'
);
drop table state;
drop table device;
"""


def note_checksum(kind: str, key: str, value: object) -> int:
    """What stands beside a note, so that no garbled one is ever believed."""
    return zlib.crc32(f"{kind} {key} {value!r}".encode())


def bring_up(db: sqlite3.Connection, version: int) -> None:
    """Brings an empty database (version 0), or one of an older format, to this format, in one transaction."""
    db.create_function("note_crc32", 3, note_checksum, deterministic=True)
    names = [name for name in TABLES if not (version and name == dated_table(Lane.LIVE))]
    script = [
        "begin immediate;",
        _NOTES,
        *(_BATCHES.format(name) for name in names),
        _FROM_FORMAT_1 if version else "",
        *(_NUMBERS.format(name) for name in names),
        f"pragma user_version = {FORMAT}; commit;",
    ]
    db.executescript("".join(script))
