"""The command `python -m db`, as an operator runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from db import migrate, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2.extensions import connection

    from stack import Timescale

ROOT = Path(__file__).parents[2]


@pytest.fixture
def db(database: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m db ...` on the test's own database; keywords are environment variables."""

    def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "db", *arguments],
            env=os.environ | {"HEADWATER_DSN": database} | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return command


@pytest.fixture(scope="module")
def rolling(timescale: Timescale) -> Iterator[str]:
    """A migrated database that the tests of a file share: the superuser's DSN."""
    name = f"rolling_{os.getpid()}_{id(object())}"
    dsn = timescale.create_database(name)
    migrate.migrate(dsn, 10)
    yield dsn
    timescale.drop_database(name)


@pytest.fixture
def opened(rolling: str) -> Iterator[connection]:
    """A connection in autocommit to the shared database, whose readings and roll-ups are gone."""
    with closing(server.connect(rolling, 10)) as connection:
        run(connection, "truncate reading, rollup_pending, rollup_1m, rollup_1h, rollup_1d")
        yield connection


def run(connection: connection, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def aged(connection: connection) -> None:
    """As if the chunks had been made days ago: what is kept no longer goes only then."""
    run(connection, "update _timescaledb_catalog.chunk set creation_time = now() - interval '2 days'")


@pytest.fixture
def age() -> Callable[[connection], None]:
    """Makes all chunks older than they are."""
    return aged


@pytest.fixture
def query() -> Callable[..., list[tuple[Any, ...]]]:
    """Runs a statement on a connection; what it returns."""
    return run
