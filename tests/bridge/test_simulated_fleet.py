"""A simulated fleet through a real broker, bridge and Kafka: churn, outages, wrong clocks; and all of it arrives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from contract.sparkplug import decode
from contract.topics import MessageType, parse_topic
from simulators.ledger import Served, read_ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.bridge.conftest import Record, World

ROOT = Path(__file__).parents[2]
NODES = 20
SCENARIO = {
    "seed": 11,
    "nodes": NODES,
    "metrics": 5,
    "interval_s": 0.2,
    "sites": 4,
    "connect_within_s": 0.5,
    "divert_after_s": 1,
    "churn": {"share": 0.5, "mean_up_s": 3, "mean_away_s": 1, "killed": 0.5},
    "outages": [{"start_s": 3, "duration_s": 2, "site": 1}, {"start_s": 4, "duration_s": 2, "site": 2, "silent": True}],
    "clocks": {"share": 0.5, "offset_s": 60, "mean_pause_s": 3},
    "misbehaving": {"duplicate": 0.1},
}


def test_twenty_nodes_through_churn_and_outages(world: World, tmp_path: Path) -> None:
    world.bridge().start()
    outcome = run_fleet(world, tmp_path)
    assert outcome["lines_lost"] >= 10
    assert outcome["connections"] > NODES + outcome["lines_lost"]
    samples = [one for one in read_ledger(tmp_path / "fleet.jsonl") if isinstance(one, Served)]
    records = [one for one in world.records(world.payloads, len(samples)) if is_data(one)]
    batches = {(one.key, one.headers.batch): readings(one) for one in records}
    assert len(records) > len(batches), "some were sent twice"
    assert all(readings(one) == batches[one.key, one.headers.batch] for one in records), "the same each time"
    told = [reading for found in batches.values() for reading in found]
    sampled = [(str(one.node), metric, one.source_at, value) for one in samples for metric, value in one.values.items()]
    assert len(told) == len(set(told)), "no reading is in two batches"
    assert sorted(told) == sorted(sampled)
    for _, found in groupby(sorted(records, key=lambda one: one.key), key=lambda one: one.key):
        assert_in_order(found)


def run_fleet(world: World, directory: Path) -> dict[str, Any]:
    scenario = directory / "fleet.yaml"
    scenario.write_text(yaml.safe_dump(SCENARIO | {"group": world.group}))
    broker = f"127.0.0.1:{world.mosquitto.port}"
    words = ["--scenario", scenario, "--broker", broker, "--ledger", directory / "fleet.jsonl", "--duration", "8"]
    done = subprocess.run(
        [sys.executable, "-m", "simulators", "fleet", *map(str, words), "--json"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def is_data(record: Record) -> bool:
    return parse_topic(record.headers.topic).message_type is MessageType.DDATA


def readings(record: Record) -> list[tuple[str, str, int, object]]:
    node = parse_topic(record.headers.topic).node
    return [(node, m.name, m.timestamp_ms, m.value) for m in decode(record.value).metrics]


def assert_in_order(records: Iterable[Record]) -> None:
    """Of each of a node's epochs the batches came without holes and, the first time, in their order."""
    numbers: dict[int, list[int]] = defaultdict(list)
    for record in records:
        assert record.headers.batch is not None
        numbers[record.headers.batch.epoch].append(record.headers.batch.batch_no)
    for found in numbers.values():
        assert list(dict.fromkeys(found)) == list(range(1, max(found) + 1))
