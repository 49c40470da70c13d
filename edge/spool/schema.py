"""What stands in a spool's file, and how a file of an older format is brought to this one."""

from __future__ import annotations

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
  crc32    integer,
  payload  blob not null
);
insert or ignore into sequence values ('{}', 1, 1, null);
"""
_SINCE_FORMAT_2: Final = """
create table sequence (
  name      text primary key,
  oldest_no integer not null,
  next_no   integer not null,
  crc32     integer
);
create table boot (
  name      text not null,
  first_no  integer not null,
  boot_id   text not null,
  after_ms  integer not null,
  booted_ms integer,
  primary key (name, first_no)
);
create table salvage (name text primary key, progress text not null);
"""
_NEW: Final = """
create table device (name text primary key, last_ms integer not null);
create table state (key text primary key, value integer not null);
insert into state values ('bd_seq', -1), ('clean_stop', 0), ('unchecked_through', 0), ('newest_kept_ms', 0);
"""
# Format 1 had one sequence, without checksums: it becomes lane LIVE, where it lies.
_FROM_FORMAT_1: Final = """
alter table batch rename to live;
alter table live add column crc32 integer;
insert into sequence
select 'live', coalesce((select min(batch_no) from live), value), value, null from state where key = 'next_batch_no';
insert into state select 'unchecked_through', value - 1 from state where key = 'next_batch_no';
insert into state select 'newest_kept_ms', coalesce(max(kept_ms), 0) from live;
delete from state where key = 'next_batch_no';
"""


def bring_up(db: sqlite3.Connection, version: int) -> None:
    """Brings an empty database (version 0), or one of an older format, to this format, in one transaction."""
    names = [name for name in TABLES if not (version and name == dated_table(Lane.LIVE))]
    script = [
        "begin immediate;",
        _SINCE_FORMAT_2,
        _FROM_FORMAT_1 if version else _NEW,
        *(_BATCHES.format(name, name) for name in names),
        f"pragma user_version = {FORMAT}; commit;",
    ]
    db.executescript("".join(script))
