"""A migrated database with a handful of nodes, in every state that a technician meets."""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from db import migrate, roles, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2.extensions import cursor

    from stack import Timescale

PASSWORD = "a reader's password"
NODES = """
insert into node (group_id, node_id, first_seen_at, last_seen_at, last_birth_at, last_death_at, online, bd_seq)
select g, n, now() - interval '9 days', now() - seen, now() - interval '5 hours', now() - died, died is null, 1
from (values ('plant', 'pi-1', interval '1 s', null::interval), ('plant', 'pi-2', '2 s', null),
             ('plant', 'pi-3', '3 hours', '3 hours'), ('plant', 'pi-4', '10 minutes', null),
             ('lab', 'pi-9', '1 s', null)) v (g, n, seen, died);
insert into node_status (group_id, node_id, device_id, at, status)
select 'plant', 'pi-1', d, now() - interval '5 hours', 'online' from unnest(array['', 'line', 'weather']) d;
insert into node_position values ('plant', 'pi-1', 'hall 3', 50, 10);
insert into node_epoch (group_id, node_id, epoch, newest, newest_ms, heard_at, given_up, undelivered)
values ('plant', 'pi-1', 1, 1000, 1, now(), 0, 0), ('plant', 'pi-2', 1, 900, 1, now(), 4, 3);
insert into gap (group_id, node_id, device_id, from_at, to_at, reason, declared_at, kind)
values ('plant', 'pi-1', 'line', now() - interval '20 min', now() - interval '15 min', 'spool full', now(), 'declared');
insert into node_event (group_id, node_id, device_id, metric, at, kind, detail)
values ('plant', 'pi-1', 'line', 'level', now() - interval '1 hour', 'series_changed', '{"version": 2}');
insert into anomaly (group_id, node_id, device_id, metric, detector, place, started_at, peak_at, peak_score, threshold)
values ('plant', 'pi-1', 'line', 'level', 'robust', 'cloud', now() - interval '5 min', now(), 9, 5);
"""
HEALTH: dict[str, dict[str, float]] = {
    "pi-1": {"Uptime": 7200, "Temperature": 51, "Clock Synchronised": 1, "Clock Offset": 2.5, "Memory": 58}
    | {"Disk Free": 9e9, "Disk Size": 16e9, "Spool Limit": 2.0**28, "Spool Batches": 12, "Spool Bytes": 30_000}
    | {"Spool Evicted": 0, "Spool Dropped": 0, "Spool Set Aside": 0, "line/Line Occupancy": 0.34, "line/Polls": 1000}
    | {"line/Failures": 12, "line/Skipped Ticks": 3, "weather/Quota Left Day": 987, "weather/Polls": 10},
    "pi-2": {"Temperature": 81.0, "Clock Synchronised": 0, "Spool Limit": 100, "Spool Bytes": 40, "Spool Batches": 7}
    | {"Spool Evicted": 5.0, "Spool Dropped": 1, "Spool Set Aside": 1},
}
TEXTS = {
    ("pi-1", "", "Health/Version"): "0.1.0",
    ("pi-2", "", "Health/Version"): "\x1b]0;mine\x07\u202e0.2",
    ("pi-1", "", "Headwater/Command/Answer"): json.dumps(
        {"command": "Node Control/Reload", "done": True, "value": None}
    ),
    ("pi-1", "line", "Headwater/Command/Answer"): json.dumps(
        {
            "command": "valve",
            "done": False,
            "command_id": "c-1",
            "reason": "the configuration does not allow to write it",
        }
    ),
    ("pi-1", "", "Update/agent/agent"): json.dumps(
        {"counter": 7, "wanted": "0.2.0", "running": "0.1.0", "state": "rolled_back", "reason": "no mark in 300 s"}
    ),
    ("pi-1", "", "Update/model/pump"): "no JSON at all",
    ("pi-1", "pump-model", "model/version"): "v3",
    ("pi-1", "pump-model", "model/state"): "ok",
}


def fill(cursor: cursor) -> None:
    cursor.execute(NODES)
    for node, told in HEALTH.items():
        for metric, value in told.items():
            _series(cursor, node, "", f"Health/{metric}", "numeric", value)
    for device, metric in (("line", "level"), ("line", "valve"), ("weather", "temperature")):
        _series(cursor, "pi-1", device, metric, "numeric", 1.5)
    for (node, device, metric), text in TEXTS.items():
        _series(cursor, node, device, metric, "text", text)


def _series(cursor: cursor, node: str, device: str, metric: str, kind: str, value: object) -> None:
    cursor.execute(
        "insert into series (group_id, node_id, device_id, metric, kind, datatype) values ('plant', %s, %s, %s, %s, 10)"
        " returning series_id",
        (node, device, metric, kind),
    )
    table = "reading" if kind == "numeric" else "reading_text"
    cursor.execute(
        f"insert into {table} (series_id, sampled_at, value, quality) values (%s, now() - interval '7 s', %s, 192)",
        (cursor.fetchone()[0], value),  # type: ignore[index]  # returning gives a row
    )


@pytest.fixture(scope="session")
def owner_dsn(timescale: Timescale) -> Iterator[str]:
    """The superuser's DSN of the database with the nodes."""
    name = f"fleet_view_{os.getpid()}"
    owner = timescale.create_database(name)
    migrate.migrate(owner, 10)
    roles.allow_login(owner, "headwater_reader", PASSWORD, 10)
    with closing(server.connect(owner, 10)) as opened, opened.cursor() as cursor:
        fill(cursor)
    yield owner
    timescale.drop_database(name)


@pytest.fixture
def dsn(owner_dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> str:
    """The reader's DSN without a password, which the environment has; no home is here."""
    monkeypatch.setenv("HEADWATER_DB_PASSWORD", PASSWORD)
    monkeypatch.delenv("HEADWATER_FLEET", raising=False)
    monkeypatch.delenv("HEADWATER_READER_DSN", raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("desk"))
    parts = {key: value for key, value in parse_dsn(owner_dsn).items() if key != "password"}
    return str(make_dsn(**(parts | {"user": "headwater_reader"})))


@pytest.fixture
def change(owner_dsn: str) -> Callable[[str], None]:
    """Runs a statement as the owner."""

    def run(statement: str) -> None:
        with closing(psycopg2.connect(owner_dsn)) as opened, opened, opened.cursor() as cursor:
            cursor.execute(statement)

    return run
