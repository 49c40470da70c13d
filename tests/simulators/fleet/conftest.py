"""A host that tells nodes what is durable when the test wants it to, and fleets on the loop of the test."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from contract.config import parse_config
from contract.datatypes import DataType
from contract.delivery import BatchStamp, DurableMark
from contract.hoststate import HostState, state_topic
from contract.sparkplug import REBIRTH, Metric, Payload, decode, encode
from contract.topics import MessageType, Topic, parse_topic
from simulators.fleet.config import FleetConfig
from simulators.fleet.run import run_fleet
from simulators.ledger import Ledger, Served, read_ledger

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from simulators.fleet.run import Outcome
    from stack import Mosquitto

_numbers = count(1)


@dataclass(frozen=True)
class Heard:
    topic: Topic
    payload: Payload
    stamp: BatchStamp | None
    qos: int


@dataclass
class Host:
    """What a bridge is to the nodes; `is_durable` says whether it answers."""

    port: int
    group: str
    is_durable: bool = True
    tls: ssl.SSLContext | None = None
    heard: list[Heard] = field(default_factory=list)
    _marks: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    _settled: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2, f"host-{self.group}", protocol=paho.MQTTv5)
        self.client.on_message = self._on_message
        there = threading.Event()
        self.client.on_subscribe = lambda *_: there.set()
        if self.tls is not None:
            self.client.tls_set_context(self.tls)
        self.client.connect("localhost" if self.tls else "127.0.0.1", self.port)
        self.client.subscribe(f"spBv1.0/{self.group}/#", qos=1)
        self.client.loop_start()
        assert there.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()

    def settle(self) -> None:
        """Return once all has come that the broker had by now."""
        self._settled.clear()
        self.client.publish(f"spBv1.0/{self.group}/DCMD/settled/now", qos=1)
        assert self._settled.wait(10)

    def of(self, kind: MessageType, node: str | None = None) -> list[Heard]:
        return [one for one in list(self.heard) if one.topic.message_type is kind and node in {None, one.topic.node}]

    def numbers(self, node: str) -> list[int]:
        """The batches of a node, in the order in which they came first, lanes one after another."""
        stamps = [one.stamp for one in self.of(MessageType.DDATA, node) if one.stamp]
        return [stamp.batch.batch_no for stamp in sorted(dict.fromkeys(stamps), key=lambda stamp: stamp.batch.epoch)]

    def command(self, node: str, payload: Payload) -> None:
        self.client.publish(str(Topic(self.group, MessageType.NCMD, node)), encode(payload), qos=0)

    def ask_births(self, node: str) -> None:
        self.command(node, Payload(1, (Metric(REBIRTH, DataType.BOOLEAN, value=True, timestamp_ms=1),)))

    def tell_state(self, *, online: bool) -> None:
        state = HostState(online, time.time_ns() // 1_000_000)
        self.client.publish(state_topic(self.group), state.to_payload(), qos=1, retain=True)

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        topic = parse_topic(message.topic)
        if topic.message_type is MessageType.DCMD:
            self._settled.set()
        if topic.message_type in {MessageType.NCMD, MessageType.DCMD}:
            return
        stamp = BatchStamp.from_properties(getattr(message.properties, "UserProperty", ()))
        self.heard.append(Heard(topic, decode(message.payload), stamp, message.qos))
        if stamp is None or not self.is_durable:
            return
        known = topic.node, stamp.batch.epoch
        through = max(self._marks[known], stamp.oldest - 1)
        if stamp.batch.batch_no == through + 1:
            through += 1
        self._marks[known] = through
        self.command(topic.node, DurableMark(stamp.batch.epoch, through).to_payload(1))


@pytest.fixture
def new_host() -> Iterator[Callable[..., Host]]:
    """Makes hosts, each as it is told to."""
    hosts: list[Host] = []

    def make(*arguments: Any, **keys: Any) -> Host:
        hosts.append(Host(*arguments, **keys))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def host(mosquitto: Mosquitto, new_host: Callable[..., Host]) -> Host:
    """The host of a group of the test's own."""
    return new_host(mosquitto.port, f"fleet{next(_numbers)}")


@dataclass
class Run:
    """A fleet that runs on the loop of the test, and what it noted."""

    host: Host
    config: FleetConfig
    ledger: Path
    drain_s: float = 30.0

    def go(self, duration_s: float) -> Outcome:
        outcome = asyncio.run(self(duration_s))
        self.host.settle()
        return outcome

    async def __call__(self, duration_s: float) -> Outcome:
        with Ledger(self.ledger, {"simulator": "fleet", "seed": 1, "match": "source_time"}) as ledger:
            return await run_fleet(self.config, ledger.sampled, duration_s=duration_s, drain_s=self.drain_s)

    def samples(self, node: str) -> list[Served]:
        return [one for one in read_ledger(self.ledger) if isinstance(one, Served) and one.node == node]


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Run]:
    """Makes fleets of a host's group, by the keys of their configuration."""

    def make(host: Host, drain_s: float = 30.0, **keys: Any) -> Run:
        broker = {"port": host.port} | keys.pop("broker", {})
        document = {"group": host.group, "interval_s": 0.1, "metrics": 3, "connect_within_s": 0.1, "broker": broker}
        return Run(host, parse_config(document | keys, FleetConfig, "test"), tmp_path / "fleet.jsonl", drain_s)

    return make
