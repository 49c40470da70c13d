"""The connection to the database: opened as the stream needs it, and psycopg2's errors told apart."""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg2

from stream.errors import DatabaseAway, FatalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection

logger = logging.getLogger(__name__)

# A host that vanishes without a word must be noticed: libpq would wait for hours.
_TIMEOUTS: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# What an operator must mend; libpq gives no code for a refused connection, only these words.
_REFUSALS: Final = (
    "password authentication failed",
    "does not exist",
    "is not permitted to log in",
    "no pg_hba.conf entry",
)

_RIGHTS: Final = """
select coalesce(has_table_privilege(to_regclass(name), privilege), false), name, privilege
from (values ('series', 'select, insert'), ('reading', 'insert'), ('reading_text', 'insert'), ('node', 'update'),
             ('node_status', 'insert'), ('gap', 'insert'), ('camera_event', 'insert'), ('dead_letter', 'insert'),
             ('ingest_batch', 'update'), ('node_epoch', 'update'), ('node_event', 'insert'),
             ('rollup_pending', 'insert'),
             ('bar', 'update'), ('trend', 'update'), ('anomaly', 'update'), ('late_reading', 'update'),
             ('analysis_batch', 'update'))
     as needed (name, privilege)
"""


def connect(dsn: str) -> connection:
    """A connection whose commits are durable; raises DatabaseAway or, for what an operator must mend, FatalError."""
    try:
        opened: connection = psycopg2.connect(dsn, application_name="headwater stream", **_TIMEOUTS)
    except psycopg2.OperationalError as exc:
        message = str(exc).strip()
        if "FATAL" in message and any(words in message for words in _REFUSALS):
            raise FatalError(
                f"the database refuses the stream: {message} (see HEADWATER_DSN and `python -m db login`)"
            ) from exc
        raise DatabaseAway(message) from exc
    except psycopg2.ProgrammingError as exc:
        raise FatalError(f"HEADWATER_DSN cannot be read: {str(exc).strip()}") from exc
    with translated(opened):
        with opened.cursor() as cursor:
            # Spark commits a batch's offsets right after ours. A server killed just after an asynchronous commit would
            # have forgotten the rows, and nobody would send them again (docs/decisions/0003).
            cursor.execute("set synchronous_commit = on; set timezone = 'UTC'")
        opened.commit()
    return opened


def check_tables(dsn: str) -> None:
    """Raise FatalError unless the database is migrated and this role may write; DatabaseAway when it is not there."""
    with closing(connect(dsn)) as opened, translated(opened), opened.cursor() as cursor:
        cursor.execute(_RIGHTS)
        lacking = [f"{privilege} on {name}" for allowed, name, privilege in cursor.fetchall() if not allowed]
    if lacking:
        raise FatalError(
            f"the database is not ready: {opened.info.user} lacks {'; '.join(lacking)}: run `python -m db migrate`, "
            "and connect as headwater_writer"
        )


@contextmanager
def translated(opened: connection) -> Iterator[None]:
    """psycopg2's errors as ours: DatabaseAway where trying again will do, FatalError for all else."""
    try:
        yield
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
        raise DatabaseAway(_first_line(exc)) from exc
    except psycopg2.DatabaseError as exc:
        # A connection cut in the middle of COPY shows as a bare DatabaseError.
        if opened.closed or exc.pgcode is None:
            raise DatabaseAway(_first_line(exc)) from exc
        advice = (
            "run `python -m db migrate`, and connect as headwater_writer"
            if exc.pgcode[:2] == "42"
            else "a fault of Headwater"
        )
        raise FatalError(f"the database refused a batch: {_first_line(exc)} ({exc.pgcode}; {advice})") from exc


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0] or repr(exc)
