"""The Community edition: continuous aggregates, columnstore and policies, in place of `roll_up()` and `retain_table()`.

Everything is made as headwater_owner, and may be made again: what is there stays, policies are brought up to date.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from psycopg2.extensions import connection, cursor

logger = logging.getLogger(__name__)

# Before it, INSERT ... ON CONFLICT DO NOTHING into a compressed chunk stopped at the first conflict: readings were lost
# without a word (timescaledb#7672).
_SAFE_COLUMNSTORE: Final = (2, 18, 1)
# What comes late comes within a week, mostly; later it is still stored, but slowly.
_COMPRESS_AFTER: Final = "7 days"
# A chunk of raw readings goes as a whole, so a day before that none of it has gone.
_MARGIN: Final = "1 day"


@dataclass(frozen=True, slots=True)
class Level:
    """A roll-up: of what it is made, how wide its buckets are, and when it is brought up to date."""

    rollup: str
    source: str
    source_time: str
    width: str
    every: str

    @property
    def continuous(self) -> str:
        """The continuous aggregate; `rollup` is the plain table that the Apache edition has in its place."""
        return f"{self.rollup}_continuous"

    @property
    def view(self) -> str:
        """What dashboards query, on both editions."""
        return self.rollup.replace("rollup", "reading")


LEVELS: Final = (
    Level("rollup_1m", "reading", "sampled_at", "1 minute", "1 minute"),
    Level("rollup_1h", "rollup_1m_continuous", "bucket_at", "1 hour", "10 minutes"),
    Level("rollup_1d", "rollup_1h_continuous", "bucket_at", "1 day", "1 hour"),
)

# As in roll_up_level().
_OF_READINGS: Final = """
  count(*) filter (where quality = 192) as n_good, count(*) filter (where quality <> 192) as n_bad,
  sum(least(greatest(value, -1e290), 1e290)) filter (where quality = 192) as sum,
  min(value) filter (where quality = 192) as min, max(value) filter (where quality = 192) as max,
  first(value, sampled_at) filter (where quality = 192) as first,
  min(sampled_at) filter (where quality = 192) as first_at,
  last(value, sampled_at) filter (where quality = 192) as last, max(sampled_at) filter (where quality = 192) as last_at
"""
_OF_BUCKETS: Final = """
  sum(n_good) as n_good, sum(n_bad) as n_bad, sum(sum) as sum, min(min) as min, max(max) as max,
  first(first, first_at) filter (where n_good > 0) as first, min(first_at) as first_at,
  last(last, last_at) filter (where n_good > 0) as last, max(last_at) as last_at
"""
_COLUMNS: Final = """
series_id, bucket_at, n_good::bigint as n_good, n_bad::bigint as n_bad, sum / nullif(n_good, 0)::float8 as mean,
min, max, sum, first, first_at, last, last_at
"""
# Hypertables in columns: what a row is found by, and the order within that.
_COLUMNSTORE: Final = {
    "reading": ("series_id", "sampled_at"),
    "reading_text": ("series_id", "sampled_at"),
    "trend": ("series_id", "at"),
}
# Continuous aggregates know by themselves what was touched, so the ingest's notes have nobody to read them.
_DISCARD_NOTES: Final = (
    """
create or replace function discard() returns trigger language plpgsql as 'begin return null; end'
""",
    "create or replace trigger discard before insert on rollup_pending for each row execute function discard()",
    "truncate rollup_pending",
)


def settle(opened: connection) -> None:
    """Make what is missing, and policies as the table `retention` has them."""
    with opened.cursor() as cursor:
        # Jobs run as the owner of their table, who must be allowed to; without a password nobody else can be it.
        cursor.execute("alter role headwater_owner login")
        cursor.execute("set role headwater_owner")
        _roll_up(cursor)
        for statement in policies(_hypertables(cursor), _retention(cursor)):
            cursor.execute(statement)
        _columnstore(cursor)
        cursor.execute("reset role")


def continuous_aggregate(level: Level) -> str:
    """The statement that makes a level's continuous aggregate.

    Real-time: what is not yet materialised is added from the level below when it is asked for. The policies leave a few
    buckets at most, so a panel is never behind its readings, and costs hardly more.
    """
    aggregates = _OF_READINGS if level.source == "reading" else _OF_BUCKETS
    return (
        f"create materialized view {level.continuous} "
        "with (timescaledb.continuous, timescaledb.materialized_only = false) as\n"
        f"select series_id, time_bucket(interval '{level.width}', {level.source_time}) as bucket_at,{aggregates}"
        f"from {level.source} group by 1, 2 with no data"
    )


def view(level: Level, since: datetime | None) -> str:
    """The statement by which dashboards see the continuous aggregate, and before `since` what was rolled up without."""
    columns = _COLUMNS.strip()
    made = f"select {columns} from {level.continuous}"  # noqa: S608 - our own names
    if since is not None:
        at = f"timestamptz '{since.isoformat()}'"
        made += f" where bucket_at >= {at} union all select {columns} from {level.rollup} where bucket_at < {at}"  # noqa: S608 - as above
    return f"create or replace view {level.view} as {made}"


def policies(hypertables: set[str], retention: Mapping[str, str | None]) -> Iterator[str]:
    """The statements that bring retention and refreshes in line; `retention` has what each table keeps, None: all."""
    continuous = {level.continuous: level.rollup for level in LEVELS}
    for table in sorted(hypertables | set(continuous)):
        yield f"select remove_retention_policy('{table}', if_exists => true)"
        keep = retention.get(continuous.get(table, table))
        if keep is not None:
            yield f"select add_retention_policy('{table}', drop_after => interval '{keep}')"
    for level in LEVELS:
        kept = retention.get(continuous.get(level.source, level.source))
        # Where raw readings have gone already, a refresh would take the buckets for empty.
        start = "null" if kept is None else f"interval '{kept}' - interval '{_MARGIN}'"
        yield f"select remove_continuous_aggregate_policy('{level.continuous}', if_exists => true)"
        yield (
            f"select add_continuous_aggregate_policy('{level.continuous}', start_offset => {start}, "
            f"end_offset => interval '{level.width}', schedule_interval => interval '{level.every}')"
        )


def columnstore(table: str) -> Iterator[str]:
    """The statements that keep a hypertable's older chunks in columns."""
    segment, order = _COLUMNSTORE[table]
    yield (
        f"alter table {table} set (timescaledb.compress, timescaledb.compress_segmentby = '{segment}', "
        f"timescaledb.compress_orderby = '{order}')"
    )
    yield (
        f"select add_compression_policy('{table}', compress_after => interval '{_COMPRESS_AFTER}', "
        "if_not_exists => true)"
    )


def _roll_up(cursor: cursor) -> None:
    cursor.execute("select view_name::text from timescaledb_information.continuous_aggregates")
    there = {name for (name,) in cursor.fetchall()}
    for level in LEVELS:
        if level.continuous not in there:
            cursor.execute(continuous_aggregate(level))
    cursor.execute("select pg_get_viewdef('reading_1d'::regclass) like '%rollup_1d_continuous%'")
    if (cursor.fetchone() or (False,))[0]:
        return
    # The first time, perhaps coming from the Apache edition: readings that are still there are rolled up anew.
    for level in LEVELS:
        logger.info("rolling up all readings into %s; this may take a while", level.continuous)
        cursor.execute(f"call refresh_continuous_aggregate('{level.continuous}', null, null)")
    since = _oldest_whole_day(cursor)
    cursor.execute("begin")
    for statement in (*(view(level, since) for level in LEVELS), *_DISCARD_NOTES):
        cursor.execute(statement)
    for level in LEVELS if since else ():
        cursor.execute("select drop_chunks(%s::regclass, newer_than => %s)", (level.rollup, since))
    cursor.execute("commit")


def _oldest_whole_day(cursor: cursor) -> datetime | None:
    """Since when there are readings of whole days; None when nothing was rolled up before."""
    cursor.execute(
        "select date_bin('1 day', min(range_start) + interval '1 day' - interval '1 microsecond', 'epoch') "
        "from timescaledb_information.chunks where hypertable_name = 'reading'"
    )
    (since,) = cursor.fetchone() or (None,)
    cursor.execute("select max(bucket_at) + interval '1 day' from rollup_1d")
    (rolled_up_to,) = cursor.fetchone() or (None,)
    return (since or rolled_up_to) if rolled_up_to else None


def _hypertables(cursor: cursor) -> set[str]:
    cursor.execute(
        "select hypertable_name::text from timescaledb_information.hypertables "
        "join retention on table_name = hypertable_name"
    )
    return {name for (name,) in cursor.fetchall()}


def _retention(cursor: cursor) -> dict[str, str | None]:
    cursor.execute("select table_name, keep::text from retention")
    return dict(cursor.fetchall())


def _columnstore(cursor: cursor) -> None:
    cursor.execute("select extversion from pg_extension where extname = 'timescaledb'")
    (version,) = cursor.fetchone() or ("0",)
    if tuple(int(part) for part in version.split("-")[0].split(".")) < _SAFE_COLUMNSTORE:
        logger.warning(
            "TimescaleDB %s loses readings that come late into compressed chunks: nothing is compressed before %s",
            version,
            ".".join(map(str, _SAFE_COLUMNSTORE)),
        )
        return
    cursor.execute("select hypertable_name::text from timescaledb_information.hypertables where compression_enabled")
    compressed = {name for (name,) in cursor.fetchall()}
    for table in _COLUMNSTORE.keys() - compressed:
        for statement in columnstore(table):
            cursor.execute(statement)
