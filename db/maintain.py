"""The scheduled statements: roll-ups and retention, by `roll_up()` and `retain_table()`, once or again and again.

Each piece is a transaction of its own, and one database has one maintainer at a time: a second one finds nothing to do.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg2

from db import server
from db.errors import MigrationError, ServerError

if TYPE_CHECKING:
    import threading

    from psycopg2.extensions import connection

logger = logging.getLogger(__name__)

# A piece: some seconds of deleting.
MOST_ROWS: Final = 10_000
# What is kept is kept for days, so an hour more is nothing.
_RETAIN_EVERY_S: Final = 3600.0

_MAY: Final = """
select coalesce(bool_and(has_function_privilege(to_regprocedure(name), 'execute')), false)
from (values ('roll_up(int, int)'), ('retain_table(text, int)')) as needed (name)
"""
_WAITING: Final = "select count(*), coalesce(extract(epoch from now() - min(noted_at)), 0)::float8 from rollup_pending"
_EXPIRED_CHUNKS: Final = """
select r.table_name, count(*) from retention r
join timescaledb_information.chunks c on c.hypertable_name = r.table_name and c.range_end <= now() - r.keep
where current_setting('timescaledb.license') = 'apache' and c.chunk_creation_time < now() - interval '1 day'
group by 1 order by 1
"""
_PLAIN_TABLES: Final = """
select table_name, time_column from retention r
where keep is not null and to_regclass(table_name) is not null
  and not exists (select from timescaledb_information.hypertables where hypertable_name = r.table_name)
order by 1
"""


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What was rolled up: notes taken, and buckets that changed."""

    notes: int = 0
    minutes: int = 0
    hours: int = 0
    days: int = 0

    def __add__(self, other: RolledUp) -> RolledUp:
        return RolledUp(
            self.notes + other.notes, self.minutes + other.minutes, self.hours + other.hours, self.days + other.days
        )

    def __str__(self) -> str:
        return f"rolled up {self.minutes} minutes, {self.hours} hours, {self.days} days of series"


def once(dsn: str, wait_s: float) -> list[str]:
    """Everything that there is to do now; what was done, a line each."""
    with closing(server.connect(dsn, wait_s)) as opened:
        check(opened)
        return [str(roll_up(opened)), *(f"removed {gone}" for gone in retain(opened))]


def plan(dsn: str, wait_s: float) -> list[str]:
    """What `once` would do, a line each; changes nothing."""
    with closing(server.connect(dsn, wait_s)) as opened, opened.cursor() as cursor:
        check(opened)
        cursor.execute(_WAITING)
        notes, lag_s = cursor.fetchone() or (0, 0.0)
        told = [f"would roll up {notes} notes, the oldest of {lag_s:.0f} s ago"]
        cursor.execute(_EXPIRED_CHUNKS)
        told += [f"would remove {count} chunks of {table}" for table, count in cursor.fetchall()]
        cursor.execute(_PLAIN_TABLES)
        for table, column in cursor.fetchall():
            cursor.execute(
                f"select count(*) from {table} where {column} < now() - "  # noqa: S608 - names that the owner keeps
                "(select keep from retention where table_name = %s)",
                (table,),
            )
            (count,) = cursor.fetchone() or (0,)
            told += [f"would remove {count} rows of {table}, or fewer: the newest of some kinds stay"] if count else []
        return told


def check(opened: connection) -> None:
    """Raise MigrationError unless the database is migrated and this role may maintain it."""
    with opened.cursor() as cursor:
        cursor.execute(_MAY)
        (may,) = cursor.fetchone() or (False,)
    if not may:
        raise MigrationError(
            f"{opened.info.user} cannot maintain this database: run `python -m db migrate`, "
            "and connect as headwater_maintainer"
        )


def roll_up(opened: connection, stop: threading.Event | None = None) -> RolledUp:
    """Work off the notes, a piece at a time, until none is left, or until told to stop."""
    total = RolledUp()
    with opened.cursor() as cursor:
        while not (stop and stop.is_set()):
            cursor.execute("select * from roll_up()")
            *counts, more = cursor.fetchone() or (False,)  # no row: another maintainer is at it
            total += RolledUp(*counts)
            if not more:
                break
    return total


def retain(opened: connection, stop: threading.Event | None = None) -> list[str]:
    """Remove what is kept no longer; how much of which table, in words."""
    told = []
    with opened.cursor() as cursor:
        cursor.execute("select table_name from retention where keep is not null order by 1")
        for (table,) in cursor.fetchall():
            removed = 0
            try:
                while not (stop and stop.is_set()):
                    cursor.execute("select retain_table(%s, %s)", (table, MOST_ROWS))
                    (piece,) = cursor.fetchone() or (0,)
                    removed += piece
                    if not piece:
                        break
            except psycopg2.errors.LockNotAvailable:
                logger.info("%s is in use: what is left of it to remove waits", table)
            if removed:
                told.append(f"{removed} rows or chunks of {table}")
    return told


class Maintainer:
    """Maintains a database for as long as it is let, whether that is there or not."""

    def __init__(self, dsn: str, every_s: float) -> None:
        self._dsn = dsn
        self._every_s = every_s
        self._opened: connection | None = None
        self._trouble = ""
        self._total = RolledUp()
        self._retained_at = -_RETAIN_EVERY_S
        self._passes = 0
        self._last_pass_at: int | None = None

    def health(self) -> dict[str, object]:
        """How it stands, for JSON: `last_pass_at` is when (UTC ms) all was last done, `trouble` why it is not now."""
        return {"passes": self._passes, "last_pass_at": self._last_pass_at, "trouble": self._trouble or None}

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; raises MigrationError when the database is there, but not for us."""
        try:
            while not stop.is_set():
                self._attempt(stop)
                stop.wait(self._every_s)
        finally:
            self._close()

    def _attempt(self, stop: threading.Event) -> None:
        """One pass; a failure is told once, and its end once."""
        try:
            if self._opened is None:
                self._opened = server.connect(self._dsn, 0)
                check(self._opened)
            self._pass(self._opened, stop)
        except (ServerError, psycopg2.Error) as exc:
            self._close()
            trouble = str(exc).strip().partition("\n")[0]
            if not self._trouble:
                logger.warning("nothing is maintained, trying again every %g s: %s", self._every_s, trouble)
            self._trouble = trouble
        else:
            if self._trouble:
                logger.info("maintained again: %s", self._total)
            self._trouble = ""
            self._passes += 1
            self._last_pass_at = time.time_ns() // 1_000_000

    def _pass(self, opened: connection, stop: threading.Event) -> None:
        self._total += roll_up(opened, stop)
        now_s = time.monotonic()
        if now_s - self._retained_at < _RETAIN_EVERY_S:
            return
        removed = retain(opened, stop)
        logger.info("%s; removed %s", self._total, ", ".join(removed) or "nothing")
        self._total, self._retained_at = RolledUp(), now_s

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = None
