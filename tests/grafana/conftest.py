"""A database for dashboards to ask: two hours of four nodes, filled once; asked as Grafana does, by the reader."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from bench.dashboards_data import Extent, fill
from db import migrate, roles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2.extensions import cursor

    from stack import Timescale

SPAN = timedelta(hours=2)


@pytest.fixture(scope="session")
def filled(timescale: Timescale) -> Iterator[tuple[str, Extent]]:
    """The reader's connection string, and what there is."""
    name = f"dashboards_{os.getpid()}"
    owner = timescale.create_database(name)
    migrate.migrate(owner, 10)
    extent = Extent(nodes=4, span=SPAN, step_s=10)
    fill(owner, extent)
    roles.allow_login(owner, "headwater_reader", "a reader's password", 10)
    yield make_dsn(**(parse_dsn(owner) | {"user": "headwater_reader", "password": "a reader's password"})), extent
    timescale.drop_database(name)


@pytest.fixture(scope="session")
def asking(filled: tuple[str, Extent]) -> Iterator[cursor]:
    """The reader's cursor, in autocommit."""
    with closing(psycopg2.connect(filled[0])) as opened:
        opened.autocommit = True
        with opened.cursor() as cursor:
            yield cursor


@pytest.fixture
def shown(filled: tuple[str, Extent]) -> tuple[datetime, datetime]:
    """A time range as dashboards have it: up to now, and a little ahead for what is forecast."""
    return filled[1].since, datetime.now(UTC) + timedelta(minutes=20)


@pytest.fixture
def query(asking: cursor) -> Callable[[str], list[tuple[Any, ...]]]:
    """Runs a statement, or says `refused`."""

    def run(statement: str) -> list[tuple[Any, ...]]:
        try:
            asking.execute(statement)
        except psycopg2.Error:
            return [("refused",)]
        return asking.fetchall()

    return run
