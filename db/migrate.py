"""Applying the migrations: yoyo keeps the books, with one transaction per migration and a lock that dies with us."""

from __future__ import annotations

import logging
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg2
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlBackend
from yoyo.connections import DatabaseURI

from db import edition, report, server
from db.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection

logger = logging.getLogger(__name__)

MIGRATIONS: Final = Path(__file__).with_name("migrations")
_TABLE: Final = "_yoyo_migration"
# Any number will do, as long as nobody else takes it: "headwate" as bytes.
_LOCK: Final = int.from_bytes(b"headwate", "big", signed=True)
_RETRY_S: Final = 0.2


class _Backend(PostgresqlBackend):  # type: ignore[misc]  # yoyo publishes no types
    """yoyo on a connection we opened.

    yoyo itself commits a migration on one connection and books it on another, so a kill between the two leaves a
    migration that is applied and not booked; here both are one transaction. Its lock is a table row that a killed run
    leaves behind; ours is an advisory lock, which ends with the connection.
    """

    def __init__(self, opened: connection) -> None:
        self._opened = opened
        uri = DatabaseURI("postgresql", None, None, None, None, opened.info.dbname, {})
        super().__init__(uri, _TABLE)
        self.has_transactional_ddl = True

    def connect(self, dburi: object) -> connection:  # noqa: ARG002 - yoyo's signature
        return self._opened

    @contextmanager
    def lock(self, timeout: float = 10) -> Iterator[None]:  # noqa: ARG002 - `locked` is held around all of it
        yield

    def apply_one(self, migration: Any, force: bool = False, mark: bool = True) -> None:  # noqa: ANN401, FBT001, FBT002, ARG002 - yoyo's signature
        with self.transaction():
            migration.process_steps(self, "apply")
            # The migration became headwater_owner; the books are kept by whoever runs this.
            self.execute("reset role")
            self.log_migration(migration, "apply")
            self.mark_one(migration, log=False)

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:  # noqa: ANN401 - yoyo's signature
        """As yoyo's, but by the database's user: in a container the process often has no name."""
        return {**super().get_log_data(migration, operation), "username": self._opened.info.user}


@dataclass(frozen=True, slots=True)
class Step:
    """A migration, and whether the database has it."""

    name: str
    applied: bool


@dataclass(frozen=True, slots=True)
class Status:
    """Where a database stands."""

    server: server.Server
    steps: tuple[Step, ...]
    report: tuple[str, ...] = ()

    @property
    def pending(self) -> tuple[str, ...]:
        """The migrations still to be applied, in order."""
        return tuple(step.name for step in self.steps if not step.applied)


def status(dsn: str, wait_s: float, directory: Path = MIGRATIONS) -> Status:
    """Where the database stands; changes nothing."""
    with closing(server.connect(dsn, wait_s)) as opened:
        return _status(opened, directory)


def migrate(dsn: str, wait_s: float, directory: Path = MIGRATIONS) -> tuple[str, ...]:
    """Apply what is pending, each migration in a transaction of its own; the names of those applied."""
    with closing(server.connect(dsn, wait_s)) as opened, locked(opened, wait_s):
        server.inspect(opened)
        backend = _Backend(opened)
        backend.ensure_internal_schema_updated()
        pending = list(backend.to_apply(_read(directory)))
        for migration in pending:
            logger.info("applying %s", migration.id)
            try:
                backend.apply_one(migration)
            except psycopg2.Error as exc:
                raise MigrationError(f"{migration.id} failed and was rolled back: {str(exc).strip()}") from exc
        edition.settle(opened)
    return tuple(migration.id for migration in pending)


@contextmanager
def locked(opened: connection, wait_s: float) -> Iterator[None]:
    """Keep other migrations of this database out; raises MigrationError when another does not end in time."""
    deadline = time.monotonic() + wait_s
    with opened.cursor() as cursor:
        while not _try_lock(cursor):
            if time.monotonic() >= deadline:
                raise MigrationError(f"another migration of this database has not ended within {wait_s:g} s")
            time.sleep(_RETRY_S)
    yield  # the lock ends with the connection


def _try_lock(cursor: Any) -> bool:  # noqa: ANN401 - psycopg2's cursor classes
    cursor.execute("select pg_try_advisory_lock(%s)", (_LOCK,))
    return bool(cursor.fetchone()[0])


def _status(opened: connection, directory: Path) -> Status:
    found = server.inspect(opened)
    with opened.cursor() as cursor:
        cursor.execute("select to_regclass(%s) is not null", (_TABLE,))
        booked: set[str] = set()
        if (cursor.fetchone() or (False,))[0]:
            cursor.execute(f"select migration_id from {_TABLE}")  # noqa: S608 - a constant
            booked = {name for (name,) in cursor.fetchall()}
    return Status(found, tuple(Step(m.id, m.id in booked) for m in _read(directory)), tuple(report.lines(opened)))


def _read(directory: Path) -> Any:  # noqa: ANN401 - yoyo's MigrationList
    migrations = read_migrations(str(directory))
    if not migrations:
        raise MigrationError(f"{directory} holds no migrations")
    return migrations
