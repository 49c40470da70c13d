"""The database, as its reader: which one, one connection, and errors that say what to do."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn
from psycopg2.extras import RealDictCursor

from contract.config import ConfigError
from fleet.errors import FleetError
from fleet.view.wording import plain

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg2.extensions import connection

_DSN: Final = "HEADWATER_READER_DSN"
_PASSWORD: Final = "HEADWATER_DB_PASSWORD"  # noqa: S105 - a variable's name
# A host that vanishes without a word must be noticed; and a person waits.
_SETTINGS: Final[dict[str, Any]] = {"connect_timeout": 5, "keepalives_idle": 5, "tcp_user_timeout": 15_000}
_OPTIONS: Final = "-c statement_timeout=15s -c default_transaction_read_only=on"
_EXAMPLE: Final = "postgresql://headwater_reader@HOST/headwater"


def add_database(parser: ArgumentParser) -> None:
    """The option --dsn, as `args.dsn`."""
    parser.add_argument(
        "--dsn",
        help=f"the database, such as {_EXAMPLE}, without a password, which {_PASSWORD} or ~/.pgpass holds; "
        f"default: the environment variable {_DSN}",
    )


def chosen_dsn(told: str | None) -> str:
    """The connection string that was told, or the environment's; raises ConfigError when there is none."""
    where, dsn = ("--dsn", told) if told is not None else (f"the environment variable {_DSN}", os.environ.get(_DSN))
    if not dsn:
        raise ConfigError(
            f"which database? Set {_DSN}, or say --dsn {_EXAMPLE}; the role headwater_reader may read all that is shown"
        )
    try:
        parts = parse_dsn(dsn)
    except psycopg2.ProgrammingError:
        # libpq's own words repeat what stands there, which may be a secret.
        raise ConfigError(f"{where} is no connection string of PostgreSQL: give {_EXAMPLE} or host=...") from None
    if told is not None and "password" in parts:
        raise ConfigError(f"--dsn: a password there is seen by everybody on this machine: put it in {_PASSWORD}")
    if "password" not in parts and os.environ.get(_PASSWORD):
        parts["password"] = os.environ[_PASSWORD]
    return str(make_dsn(**parts))


class Database:
    """A connection that only reads; each statement sees what is there then."""

    def __init__(self, opened: connection) -> None:
        self._opened = opened

    def rows(self, statement: str, values: Mapping[str, object] | None = None) -> Sequence[dict[str, Any]]:
        """What a statement gives, by column; raises FleetError."""
        try:
            with self._opened.cursor(cursor_factory=RealDictCursor) as cursor:
                cursor.execute(statement, values or {})
                return [dict(row) for row in cursor.fetchall()]
        except psycopg2.Error as exc:
            raise FleetError(_explained(exc)) from exc


@contextmanager
def opened(dsn: str) -> Iterator[Database]:
    """The database; raises FleetError when it is not to be had."""
    try:
        connected = psycopg2.connect(dsn, application_name="headwater fleet", options=_OPTIONS, **_SETTINGS)
    except psycopg2.Error as exc:
        raise FleetError(_explained(exc)) from exc
    try:
        connected.autocommit = True
        yield Database(connected)
    finally:
        connected.close()


def _explained(fault: psycopg2.Error) -> str:
    said = plain(" ".join(str(fault).split())) or type(fault).__name__
    match fault:
        case psycopg2.errors.UndefinedTable() | psycopg2.errors.UndefinedColumn():
            return f"no database of Headwater's, or an older one: `python -m db migrate` brings it up to date ({said})"
        case psycopg2.errors.InsufficientPrivilege():
            return f"this role may not read that; headwater_reader may ({said})"
        case psycopg2.errors.QueryCanceled():
            return "the database did not answer within 15 s"
        case psycopg2.OperationalError():
            return f"no connection to the database: {said}"
        case _:
            return f"the database refused: {said}"
