"""A database for dashboards to ask: two hours of four nodes, filled once; asked as Grafana does, by the reader."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import yaml
from psycopg2.extensions import make_dsn, parse_dsn

from bench.dashboards_data import Extent, fill
from db import migrate, roles
from grafana.alerts import files
from grafana.alerts.evaluate import Alert, evaluate, numbers
from grafana.interval import read_s
from grafana.macros import Shown, expand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2.extensions import cursor

    from grafana.alerts.evaluate import Kind, Labels
    from stack import Timescale

    Answer = dict[Labels, float]

SPAN = timedelta(hours=2)
WELL = Path(__file__).with_name("alerts_well.sql")
# PostgreSQL's types by their oids: numbers and texts of Grafana's.
KINDS: dict[int, Kind] = {
    **dict.fromkeys((20, 21, 23, 700, 701, 1700), "number"),
    **dict.fromkeys((25, 1043), "text"),
}


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


@dataclass(frozen=True)
class Rules:
    """The alert rules as they stand in their file, by their uids."""

    uids: dict[str, dict[str, Any]]

    def asked(self, at: cursor, uid: str) -> Answer:
        """What Grafana makes of the answer to whoever the cursor is."""
        asked = self.uids[uid]["data"][0]
        to_at = datetime.now(UTC) - timedelta(seconds=asked["relativeTimeRange"]["to"])
        from_at = to_at - timedelta(seconds=asked["relativeTimeRange"]["from"])
        at.execute(expand(asked["model"]["rawSql"], Shown(from_at, to_at, 1.0, {})))
        columns = [(column.name, KINDS.get(column.type_code, "other")) for column in at.description or ()]
        return numbers(columns, at.fetchall())

    def answer(self, at: cursor, uid: str) -> Answer:
        """The same to the reader, whose part the cursor takes for it."""
        at.execute("set local role headwater_reader")
        found = self.asked(at, uid)
        at.execute("reset role")
        return found

    def told(self, uid: str, answers: Callable[[float], Answer | None], for_s: float) -> dict[Labels, Alert]:
        """The alerts after so long of such answers."""
        alerts: dict[Labels, Alert] = {}
        rule = self.uids[uid]
        every_s = read_s(rule["interval"])
        for step in range(int(for_s // every_s) + 1):
            alerts = evaluate(rule, alerts, answers(step * every_s), step * every_s)
        return {labels: alert for labels, alert in alerts.items() if alert.phase == "Alerting"}

    def long_enough(self, uid: str) -> float:
        """Seconds until it tells."""
        return read_s(self.uids[uid]["for"])


@pytest.fixture(scope="session")
def rules() -> Rules:
    """All of them."""
    groups = yaml.safe_load((files.DIRECTORY / files.RULES).read_text())["groups"]
    return Rules({rule["uid"]: rule | {"interval": group["interval"]} for group in groups for rule in group["rules"]})


@pytest.fixture
def well(timescale: Timescale, filled: tuple[str, Any]) -> Iterator[cursor]:
    """The owner's cursor in a transaction on a fleet that is well; undone in the end."""
    owner = make_dsn(timescale.superuser_dsn, dbname=parse_dsn(filled[0])["dbname"])
    with closing(psycopg2.connect(owner)) as opened, opened.cursor() as at:
        at.execute(WELL.read_text())
        yield at
        opened.rollback()
