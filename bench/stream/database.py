"""A database for each run, migrated, and gone after it."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from db import migrate, roles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack import Timescale

_PASSWORD = "only for this run"  # noqa: S105 - of a server that ends with it


@dataclass(frozen=True, slots=True)
class Database:
    """The superuser's and the writer's way into it."""

    superuser: str
    writer: str

    @property
    def settings(self) -> dict[str, Any]:
        """The writer's connection, part by part."""
        return parse_dsn(self.writer)

    def one(self, statement: str) -> Any:  # noqa: ANN401 - whatever the column is
        """The only value that a statement gives."""
        with closing(psycopg2.connect(self.superuser)) as opened, opened.cursor() as cursor:
            cursor.execute(statement)
            (value,) = cursor.fetchone() or (None,)
            return value

    def run(self, statement: str) -> None:
        """Execute and commit."""
        with closing(psycopg2.connect(self.superuser)) as opened, opened.cursor() as cursor:
            cursor.execute(statement)
            opened.commit()


@contextmanager
def fresh(server: Timescale) -> Iterator[Database]:
    """A migrated database, with nothing left to be written of those before."""
    name = f"bench_{uuid4().hex[:8]}"
    superuser = server.create_database(name)
    migrate.migrate(superuser, 10)
    roles.allow_login(superuser, "headwater_writer", _PASSWORD, 10)
    database = Database(superuser, make_dsn(**(parse_dsn(superuser) | _WRITER)))
    database.run("checkpoint")
    try:
        yield database
    finally:
        server.drop_database(name)


_WRITER = {"user": "headwater_writer", "password": _PASSWORD}
