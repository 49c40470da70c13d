from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import yaml

from simulators.errors import LedgerError, TargetError
from simulators.ledger import Ledger, now_ms
from simulators.reconcile_targets import Target, reconcile_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from psycopg2.extensions import connection

GOOD, BAD = 192, 0


@pytest.fixture
def tables(migrated: str) -> Iterator[connection]:
    """The tables, empty."""
    opened = psycopg2.connect(migrated)
    opened.autocommit = True
    with opened.cursor() as cursor:
        cursor.execute("truncate reading, reading_text, series, gap cascade")
    yield opened
    opened.close()


@pytest.fixture
def dsn(migrated: str, tables: connection) -> str:  # noqa: ARG001 - emptied first
    return migrated


def store(
    opened: connection, metric: str, rows: Sequence[tuple[int, Any, int]], device: str = "plant", node: str = "edge-1"
) -> None:
    is_text = any(isinstance(value, str) for _, value, _ in rows)
    kind, table = ("text", "reading_text") if is_text else ("numeric", "reading")
    with opened.cursor() as cursor:
        cursor.execute(
            "insert into series (group_id, node_id, device_id, metric, kind, datatype)"
            " values ('demo', %s, %s, %s, %s, 10) returning series_id",
            (node, device, metric, kind),
        )
        found = cursor.fetchone()
        assert found is not None
        statement = f"insert into {table} values (%s, to_timestamp(%s / 1000.0), %s, %s)"
        cursor.executemany(statement, [(found[0], at, value, quality) for at, value, quality in rows])


def target_of(path: Path, **keys: Any) -> Target:
    return Target.model_validate(
        {"source": "plant", "ledger": path, "group": "demo", "node": "edge-1", "device": "plant"} | keys
    )


def write_ledger(path: Path, match: str, served: Sequence[dict[str, Any]]) -> Path:
    with Ledger(path, {"simulator": "plant", "seed": 7, "match": match}) as ledger:
        for one in served:
            ledger.served(**one)
    return path


def test_a_run_with_one_of_everything(tables: connection, dsn: str, tmp_path: Path) -> None:
    start = now_ms() + 1000
    at = [start + 1000 * i for i in range(8)]
    values = [{"level": i / 3, "running": i % 2 == 0, "serial": f"S{i}", "energy": 2**33 + i} for i in range(8)]
    served = [{"values": one, "at": t} for one, t in zip(values, at, strict=True)]
    path = write_ledger(tmp_path / "plant.jsonl", "served", served)
    stored_at = [t + 20 for t in at]
    level = [(t, i / 3, GOOD) for i, t in enumerate(stored_at)]
    level[2] = (stored_at[2], 99.0, GOOD)  # wrong
    del level[6]  # declared by the gap
    del level[4]  # lost
    store(tables, "level", [(start - 5_000_000, 1.0, GOOD), *level, (at[7] + 400, 7 / 3, GOOD)])  # a phantom
    running = [(t, float(i % 2 == 0), GOOD) for i, t in enumerate(stored_at)]
    running[3] = (stored_at[3], None, BAD)  # its poll came to nothing
    store(tables, "running", running)
    store(tables, "serial", [(t, f"S{i}", GOOD) for i, t in enumerate(stored_at)])
    store(tables, "energy", [(t, float(2**33 + i), GOOD) for i, t in enumerate(stored_at)])
    store(tables, "level", level, device="other")
    with tables.cursor() as cursor:
        cursor.execute(
            "insert into gap values ('demo', 'edge-1', 'plant', to_timestamp(%s / 1000.0), to_timestamp(%s / 1000.0),"
            " 'agent killed', now())",
            (at[6] - 10, at[6] + 10),
        )
    (result,) = reconcile_all(dsn, [target_of(path)])
    tally = result.tally
    assert (tally.produced, tally.stored, tally.declared) == (32, 28, 2)
    assert (tally.lost, tally.duplicated, tally.wrong) == (1, 1, 1)
    assert [(o.verdict, o.metric, o.at) for o in tally.offenders] == [
        ("wrong", "level", stored_at[2]),
        ("lost", "level", at[4]),
        ("duplicated", "level", at[7] + 400),
    ]


def test_one_ledger_over_two_agents(tables: connection, dsn: str, tmp_path: Path) -> None:
    at = now_ms() + 1000
    path = write_ledger(
        tmp_path / "plant.jsonl", "served", [{"values": {"tank1/level": 1.5, "pump1/speed": 7}, "at": at}]
    )
    store(tables, "tank1/level", [(at, 1.5, GOOD)])
    store(tables, "pump1/speed", [(at + 3, 7.0, GOOD)], node="edge-2")
    both = [target_of(path, metrics=["tank*"]), target_of(path, node="edge-2", metrics=["pump*"])]
    assert [result.tally.is_clean for result in reconcile_all(dsn, both)] == [True, True]
    (whole,) = reconcile_all(dsn, [target_of(path)])
    assert whole.tally.lost == 1


def test_source_times_and_metrics_that_nobody_served(tables: connection, dsn: str, tmp_path: Path) -> None:
    at = now_ms()
    old = at - 900_000
    entries = [{"values": {"temperature": 11.5}, "source_at": old, "at": at + i} for i in range(3)]
    path = write_ledger(tmp_path / "weather.jsonl", "source_time", entries)
    store(tables, "temperature", [(old, 11.5, GOOD), (at, None, BAD)], device="weather")
    store(tables, "motion", [(at, 0.5, GOOD)], device="weather")
    (result,) = reconcile_all(dsn, [target_of(path, device="weather")])
    assert (result.tally.produced, result.tally.is_clean, result.unserved) == (1, True, ("motion",))


def test_batches_that_did_not_come_excuse_nothing(tables: connection, dsn: str, tmp_path: Path) -> None:
    at = now_ms()
    path = write_ledger(tmp_path / "node.jsonl", "served", [{"values": {"m": 1.0}, "at": at}])
    store(tables, "m", [], device="")
    insert = "insert into gap (group_id, node_id, device_id, from_at, to_at, reason, declared_at"
    with tables.cursor() as cursor:
        cursor.execute(
            f"{insert}, kind, epoch, first_batch, last_batch, batches, state) values ('demo', 'edge-1', '', "
            "now() - interval '1 hour', now() + interval '1 hour', 'r', now(), 'undelivered', 1, 1, 1, 1, 'open')"
        )
    (result,) = reconcile_all(dsn, [target_of(path, device="")])
    assert (result.gaps, result.tally.lost) == ((), 1)


def test_an_hour_takes_seconds(tables: connection, dsn: str, tmp_path: Path) -> None:
    start = now_ms() + 1000
    polls, names = 1800, [f"m{i}" for i in range(60)]
    served = [{"values": {name: float(i) for name in names}, "at": start + 1000 * i} for i in range(polls)]
    path = write_ledger(tmp_path / "plant.jsonl", "served", served)
    with tables.cursor() as cursor:
        cursor.execute(
            "insert into series (group_id, node_id, device_id, metric, kind, datatype)"
            " select 'demo', 'edge-1', 'plant', unnest(%s), 'numeric', 10",
            (names,),
        )
        cursor.execute(
            "insert into reading select series_id, to_timestamp(%s / 1000.0) + i * interval '1 s', i, 192"
            " from series, generate_series(0, %s) i where metric <> 'm7' or i <> 1000",
            (start + 30, polls - 1),
        )
    began = time.monotonic()
    (result,) = reconcile_all(dsn, [target_of(path)])
    took_s = time.monotonic() - began
    assert (result.tally.produced, result.tally.lost, result.tally.duplicated) == (polls * 60, 1, 0)
    assert [(o.metric, o.at) for o in result.tally.offenders] == [("m7", start + 1_000_000)]
    assert took_s < 15


def test_no_database_and_no_ledger_are_told(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot be asked"):
        reconcile_all("host=127.0.0.1 port=1 connect_timeout=2", [target_of(tmp_path / "none.jsonl")])
    with pytest.raises(LedgerError, match="cannot be read"):
        reconcile_all(dsn, [target_of(tmp_path / "none.jsonl")])


def run_reconcile(dsn: str, targets: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simulators", "reconcile", "--targets", str(targets), *options],
        env={**os.environ, "HEADWATER_DSN": dsn, "COLUMNS": "140"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_tells_a_person_a_program_and_the_shell(tables: connection, dsn: str, tmp_path: Path) -> None:
    at = now_ms() + 1000
    path = write_ledger(tmp_path / "plant.jsonl", "served", [{"values": {"level": 1.5, "[b]": 2}, "at": at}])
    targets = tmp_path / "targets.yaml"
    targets.write_text(yaml.safe_dump([json.loads(target_of(path).model_dump_json(exclude_none=True))]))
    store(tables, "level", [(at, 1.5, GOOD)])
    told = run_reconcile(dsn, targets)
    assert told.returncode == 1
    assert "plant: what to look at" in told.stdout
    assert "[b]" in told.stdout
    as_json = run_reconcile(dsn, targets, "--json")
    assert as_json.returncode == 1
    found = json.loads(as_json.stdout)
    assert found["clean"] is False
    (source,) = found["sources"]
    assert (source["source"], source["produced"], source["stored"], source["lost"]) == ("plant", 2, 1, 1)
    assert source["offenders"] == [{"verdict": "lost", "metric": "[b]", "at": at, "served": 2, "stored": None}]
    store(tables, "[b]", [(at, 2.0, GOOD)])
    clean = run_reconcile(dsn, targets)
    assert clean.returncode == 0
    assert "what to look at" not in clean.stdout
