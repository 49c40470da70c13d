"""A card of `fleet flash` in a machine for arm64: it sets itself up, enrols, sends, and loses nothing to a power cut.

`make vm-test` prepares the image and runs this; some ten minutes, for an emulated machine takes its time.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from kafka import KafkaConsumer, TopicPartition

from contract.records import PAYLOAD_TOPIC, RecordHeaders
from fleet.__main__ import main
from fleet.founding import found
from fleet.settings import BrokerSettings, FleetSettings
from stack import Command, Kafka, ManagedProcess, free_port, wait_until
from stack.install import MOSQUITTO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from fleet.home import Home

HERE = Path(__file__).parent
BOOT_S = 900.0
NODE = "pi-007"
SCENARIO = {"seed": 3, "ledger_dir": "ledgers", "simulators": [{"type": "plant", "name": "plant"}]}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"vm_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


CARD = load("card")


class Desk:
    """An operator's machine: the fleet's broker and endpoint, a bridge into Kafka, and a plant to be polled."""

    def __init__(self, folder: Path, kafka: Kafka, stack: contextlib.ExitStack) -> None:
        self.folder, self.kafka, self._stack = folder, kafka, stack
        broker = BrokerSettings(
            host=CARD.HOST,
            port=free_port(),
            names=("127.0.0.1",),
            reached_at="127.0.0.1",
            user="root" if os.geteuid() == 0 else None,
        )
        url = f"https://{CARD.HOST}:{free_port()}"
        settings = FleetSettings(name="Test", groups=("home",), broker=broker, url=url)
        self.home: Home = found(folder / "home", settings)
        self._start("mosquitto", str(MOSQUITTO), "-c", str(self.home.path / "broker/mosquitto.conf"))
        self._python("serve", "fleet", "serve", "--home", str(self.home.path))
        self._bridge()
        self.plant = self._plant()

    def _start(self, name: str, *words: str) -> ManagedProcess:
        log = self.folder / f"{name}.log"
        return self._stack.enter_context(ManagedProcess(name, Command(words, cwd=HERE.parents[1]), log_path=log))

    def _python(self, name: str, *words: str) -> ManagedProcess:
        return self._start(name, sys.executable, "-m", *words)

    def _bridge(self) -> None:
        assert main(["host", "bridge-1", "--home", str(self.home.path)]) == 0
        files = self.home.path / "hosts" / "bridge-1"
        tls = {"ca_file": "ca.pem", "cert_file": "cert.pem", "key_file": "key.pem"}
        document = {
            "mqtt": {
                "host": "127.0.0.1",
                "port": self.home.settings.broker.port,
                "client_id": "bridge-1",
                "tls": {key: str(files / name) for key, name in tls.items()},
            },
            "groups": ["home"],
            "kafka": {"bootstrap_servers": [self.kafka.bootstrap_servers], "topics": {"create": True}},
        }
        path = self.folder / "bridge.yaml"
        path.write_text(yaml.safe_dump(document))
        self._python("bridge", "bridge", "run", str(path))

    def _plant(self) -> int:
        scenario, addresses = self.folder / "scenario.yaml", self.folder / "addresses.json"
        scenario.write_text(yaml.safe_dump(SCENARIO))
        self._python("plant", "simulators", "serve", str(scenario), "--addresses", str(addresses))
        assert wait_until(addresses.exists, timeout_s=60)
        return int(json.loads(addresses.read_text())["plant"]["port"])

    def config(self) -> Path:
        """What the device shall do."""
        document = {
            "group": "home",
            "node": NODE,
            "state_dir": "/var/lib/headwater/spool",
            "identity": {"directory": "/var/lib/headwater/identity"},
            # Nobody sets its clock there.
            "clock": {"wait_s": 0},
            "mqtt": {"host": CARD.HOST, "port": self.home.settings.broker.port},
            "sources": [
                {
                    "type": "modbus",
                    "name": "plant",
                    "interval_s": 1.0,
                    "host": CARD.HOST,
                    "port": self.plant,
                    "units": [
                        {
                            "unit_id": 1,
                            "points": [{"name": "level", "table": "input", "address": 0, "datatype": "uint16"}],
                        }
                    ],
                }
            ],
        }
        path = self.folder / "edge.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def flashed(self) -> Any:
        """A card for the node, with the agent for it."""
        home, target = str(self.home.path), self.folder / "card.img"
        assert main(["bundle", "--tar", "--arch", "arm64", "--python", "3.11", "--home", home]) == 0
        words = ["flash", str(CARD.PREPARED), str(target), "--node", NODE, "--config", str(self.config())]
        assert main([*words, "--home", home]) == 0
        return CARD.Card(target)

    def batches(self) -> dict[int, list[int]]:
        """The node's batches in Kafka: their numbers in the order of the log, by epoch."""
        consumer = KafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers, metadata_max_age_ms=500)
        with contextlib.closing(consumer):
            partitions = [TopicPartition(PAYLOAD_TOPIC, n) for n in consumer.partitions_for_topic(PAYLOAD_TOPIC) or ()]
            if not partitions:
                return {}
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            left, told = sum(consumer.end_offsets(partitions).values()), dict[int, list[int]]()
            while left > 0:
                for records in consumer.poll(timeout_ms=500).values():
                    left -= len(records)
                    for record in records:
                        headers = RecordHeaders.from_kafka(record.headers)
                        if record.key == f"home/{NODE}".encode() and headers.batch is not None:
                            told.setdefault(headers.batch.epoch, []).append(headers.batch.batch_no)
        return told


@pytest.fixture
def desk(tmp_path: Path, kafka: Kafka) -> Iterator[Desk]:
    with contextlib.ExitStack() as stack:
        yield Desk(tmp_path, kafka, stack)


@pytest.mark.slow
def test_a_card_becomes_a_node_by_itself_and_loses_nothing_when_its_power_is_cut(desk: Desk, tmp_path: Path) -> None:
    assert CARD.PREPARED.exists(), "run it by `make vm-test`"
    card = desk.flashed()
    numbers: dict[int, list[int]] = {}
    for boot in (1, 2):
        began_s, before = time.monotonic(), sum(map(len, numbers.values()))
        console = tmp_path / f"console-{boot}.log"
        with card.booted(tmp_path, console) as machine:
            assert wait_until(
                lambda: machine.poll() is not None or sum(map(len, desk.batches().values())) > before + 30,  # noqa: B023 - called in this turn
                timeout_s=BOOT_S,
                poll_s=3,
            ), console.read_text(errors="replace")[-3000:]
            assert machine.poll() is None, console.read_text(errors="replace")[-3000:]
        numbers = desk.batches()
        print(f"boot {boot}: 30 batches after {time.monotonic() - began_s:.0f} s, then its power was cut")
    for epoch, given in numbers.items():
        expected = count(min(given))
        assert sorted(set(given)) == [next(expected) for _ in set(given)], f"epoch {epoch} has a hole"
    names = card.names()
    assert "headwater/first-boot.log" in names
    assert not {"headwater/enrol.json", "headwater/key.pem"} & names, card.read("headwater/first-boot.log")
    assert not any(name.endswith(".tar.gz") for name in names)
