"""Reaching the server, and asking it whether it can hold Headwater."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg2

from db.errors import ServerError

if TYPE_CHECKING:
    from psycopg2.extensions import connection

logger = logging.getLogger(__name__)

# 15 is Debian 12's, and what the tests run on; by_range came with TimescaleDB 2.13.
_OLDEST_SERVER: Final = 150000
_OLDEST_TIMESCALEDB: Final = (2, 13)
_RETRY_S: Final = 0.5
# A host that vanishes without a word must be noticed: libpq would wait for hours.
_TIMEOUTS: Final[dict[str, Any]] = {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 60_000}

_FACTS: Final = """
select current_setting('server_version_num')::int,
       current_setting('server_version'),
       (select default_version from pg_available_extensions where name = 'timescaledb'),
       -- Set by the preloaded loader even before the extension is created; shared_preload_libraries itself is
       -- shown to superusers only.
       current_setting('timescaledb.disable_load', true) is not null,
       current_setting('timescaledb.license', true)
"""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself; `edition` is None until the extension is in the database."""

    version: str
    timescaledb: str
    edition: str | None


def connect(dsn: str, wait_s: float) -> connection:
    """A connection in autocommit, tried for up to `wait_s` seconds; raises ServerError when none comes."""
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        try:
            opened: connection = psycopg2.connect(dsn, application_name="headwater db", **_TIMEOUTS)
        except psycopg2.OperationalError as exc:
            if time.monotonic() >= deadline:
                raise ServerError(f"no connection to the database after {wait_s:g} s: {str(exc).strip()}") from exc
            if not told:
                logger.info("waiting up to %g s for the database: %s", wait_s, str(exc).strip())
                told = True
            time.sleep(_RETRY_S)
        except psycopg2.ProgrammingError as exc:
            raise ServerError(f"HEADWATER_DSN cannot be read: {str(exc).strip()}") from exc
        else:
            opened.autocommit = True
            return opened


def inspect(opened: connection) -> Server:
    """What the server is; raises ServerError when it cannot hold Headwater."""
    with opened.cursor() as cursor:
        cursor.execute(_FACTS)
        number, version, timescaledb, preloaded, edition = cursor.fetchone() or (0, "", None, False, None)
    if number < _OLDEST_SERVER:
        raise ServerError(f"the server is PostgreSQL {version}: 15 or newer is needed")
    if timescaledb is None:
        raise ServerError(f"TimescaleDB is not installed beside PostgreSQL {version}: install it, then migrate again")
    if tuple(int(part) for part in timescaledb.split("-")[0].split(".")[:2]) < _OLDEST_TIMESCALEDB:
        raise ServerError(f"the server has TimescaleDB {timescaledb}: 2.13 or newer is needed")
    if not preloaded:
        raise ServerError(
            "TimescaleDB is not loaded: set shared_preload_libraries = 'timescaledb' and restart the server"
        )
    return Server(version, timescaledb, edition)
