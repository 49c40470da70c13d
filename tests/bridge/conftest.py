"""A bridge in its own process, nodes that publish to it, and what Kafka holds in the end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import psutil
import pytest
import yaml
from kafka import KafkaConsumer, TopicPartition
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contract.delivery import BatchId, BatchStamp, DurableMark
from contract.records import RecordHeaders
from contract.sparkplug import REBIRTH, decode
from stack import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stack import Kafka, Mosquitto

ROOT = Path(__file__).parents[2]
_numbers = count(1)


@dataclass(frozen=True)
class Record:
    partition: int
    key: bytes
    value: bytes
    headers: RecordHeaders


class BridgeProcess:
    """`python -m bridge run`, with a log in a file and its health over HTTP."""

    def __init__(self, directory: Path, document: dict[str, Any]) -> None:
        self.document = document
        self.health_port: int = document["health"]["port"]
        self.log_path = directory / "bridge.log"
        self._config = directory / "bridge.yaml"
        self._config.write_text(yaml.safe_dump(document))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def rss_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def start(self, *, ready: bool = True) -> BridgeProcess:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bridge", "run", str(self._config)], cwd=ROOT, stderr=log
            )
        if ready:
            self.wait(lambda health: health["mqtt_connected"] and health["kafka_connected"])
        return self

    def health(self) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/healthz", timeout=5) as answer:
                health: dict[str, Any] = json.load(answer)
                return health
        except OSError:
            return None

    def wait(self, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 40) -> None:
        def fulfilled() -> bool:
            assert self.process.poll() is None, f"the bridge has ended:\n{self.log}"
            health = self.health()
            return health is not None and condition(health)

        assert until(fulfilled, timeout_s), f"waited in vain; {self.health()}:\n{self.log}"

    def stop(self, timeout_s: float = 40) -> int:
        self.process.terminate()
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def until(condition: Callable[[], bool], timeout_s: float = 40) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@dataclass
class Node:
    """An edge node: publishes with or without stamps, and keeps what the bridge answers."""

    port: int
    group: str
    name: str = "n"
    marks: list[DurableMark] = field(default_factory=list)
    rebirths: int = 0
    _pending: deque[paho.MQTTMessageInfo] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2, f"node-{self.group}-{self.name}", protocol=paho.MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        self.client.max_inflight_messages_set(500)
        self.client.on_connect = self._on_connect
        self.client.on_message = self._on_message
        self._subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        assert self._subscribed.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()

    def topic(self, kind: str, device: str | None = None) -> str:
        return "/".join(filter(None, ["spBv1.0", self.group, kind, self.name, device]))

    def publish(self, topic: str, payload: bytes, stamp: BatchStamp | None = None, qos: int = 1) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        if stamp:
            properties.UserProperty = stamp.to_properties()
        self._pending.append(self.client.publish(topic, payload, qos=qos, properties=properties))

    def data(self, batch_no: int, payload: bytes | None = None, oldest: int = 1) -> None:
        stamp = BatchStamp(BatchId(1, batch_no), oldest)
        self.publish(self.topic("DDATA", "d"), payload if payload is not None else b"%d" % batch_no, stamp)

    def flush(self, timeout_s: float = 60) -> None:
        """Wait until the broker has taken everything."""
        while self._pending:
            self._pending.popleft().wait_for_publish(timeout_s)

    @property
    def through(self) -> int:
        return max((mark.through for mark in self.marks), default=0)

    def _on_connect(self, client: paho.Client, *_args: object) -> None:
        client.subscribe(self.topic("NCMD"), qos=1)

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        metrics = decode(bytes(message.payload)).metrics
        mark = DurableMark.from_metrics(metrics)
        if mark:
            self.marks.append(mark)
        self.rebirths += any(metric.name == REBIRTH and metric.value is True for metric in metrics)


class World:
    """One test's corner of the shared servers: a group, a pair of topics, bridges and nodes of its own."""

    def __init__(self, directory: Path, mosquitto: Mosquitto, kafka: Kafka) -> None:
        self.group = f"group{next(_numbers)}"
        self.payloads, self.dead_letters = f"{self.group}.payloads", f"{self.group}.dead"
        self.mosquitto, self.kafka = mosquitto, kafka
        self._directory = directory
        self._bridges: list[BridgeProcess] = []
        self._nodes: list[Node] = []

    def bridge(self, **more: Any) -> BridgeProcess:
        document: dict[str, Any] = {
            "mqtt": {"host": "127.0.0.1", "port": self.mosquitto.port, "client_id": f"bridge-{self.group}"},
            "groups": [self.group],
            "kafka": {
                "bootstrap_servers": [self.kafka.bootstrap_servers],
                "topics": {
                    "payloads": self.payloads,
                    "dead_letters": self.dead_letters,
                    "create": True,
                    "partitions": 3,
                },
                "delivery_timeout_s": 3,
            },
            "health": {"port": free_port()},
            **more,
        }
        directory = self._directory / f"bridge{len(self._bridges)}"
        directory.mkdir()
        self._bridges.append(BridgeProcess(directory, document))
        return self._bridges[-1]

    def node(self, name: str = "n", group: str | None = None) -> Node:
        self._nodes.append(Node(self.mosquitto.port, group or self.group, name))
        return self._nodes[-1]

    def records(self, topic: str, at_least: int, timeout_s: float = 60) -> list[Record]:
        """All that the topic holds, once it is that many."""
        consumer = KafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers, metadata_max_age_ms=500)
        try:
            assert until(lambda: bool(consumer.partitions_for_topic(topic)), timeout_s)
            partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            found: list[Record] = []
            deadline = time.monotonic() + timeout_s
            while len(found) < at_least or sum(consumer.end_offsets(partitions).values()) > len(found):
                assert time.monotonic() < deadline, f"{len(found)} of {at_least} records in {topic}"
                for batch in consumer.poll(timeout_ms=200).values():
                    found += [Record(r.partition, r.key, r.value, RecordHeaders.from_kafka(r.headers)) for r in batch]
            return found
        finally:
            consumer.close()

    def close(self) -> None:
        for node in self._nodes:
            node.close()
        for bridge in self._bridges:
            if bridge._process is not None and bridge._process.poll() is None:
                bridge.kill()


@pytest.fixture
def world(tmp_path: Path, mosquitto: Mosquitto, kafka: Kafka) -> Iterator[World]:
    world = World(tmp_path, mosquitto, kafka)
    yield world
    world.close()


@pytest.fixture
def new_world(tmp_path: Path) -> Iterator[Callable[[Mosquitto, Kafka], World]]:
    """Makes worlds of servers that the test may kill."""
    worlds: list[World] = []

    def make(mosquitto: Mosquitto, kafka: Kafka) -> World:
        worlds.append(World(tmp_path, mosquitto, kafka))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., bool]:
    return until
