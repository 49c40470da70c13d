"""Nodes of a fleet on a real broker, with a host that tells what is durable when the test wants it to."""

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
from contract.delivery import GAP, BatchStamp, DurableMark
from contract.hoststate import HostState, state_topic
from contract.sparkplug import BD_SEQ, REBIRTH, Metric, Payload, decode, encode
from contract.topics import MessageType, Topic, parse_topic
from simulators.fleet.config import FleetConfig
from simulators.fleet.run import run_fleet
from simulators.ledger import Header, Ledger, Served, read_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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
    heard: list[Heard] = field(default_factory=list)
    _marks: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    _settled: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2, f"host-{self.group}", protocol=paho.MQTTv5)
        self.client.on_message = self._on_message
        there = threading.Event()
        self.client.on_subscribe = lambda *_: there.set()
        self.client.connect("127.0.0.1", self.port)
        self.client.subscribe(f"spBv1.0/{self.group}/#", qos=1)
        self.client.loop_start()
        assert there.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

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
def host(mosquitto: Mosquitto) -> Iterator[Host]:
    host = Host(mosquitto.port, f"fleet{next(_numbers)}")
    yield host
    host.close()


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
def fleet(host: Host, tmp_path: Path) -> Any:
    def make(drain_s: float = 30.0, **keys: Any) -> Run:
        broker = {"port": host.port} | keys.pop("broker", {})
        document = {"group": host.group, "interval_s": 0.1, "metrics": 3, "connect_within_s": 0.1, "broker": broker}
        return Run(host, parse_config(document | keys, FleetConfig, "test"), tmp_path / "fleet.jsonl", drain_s)

    return make


async def until(what: str, condition: Any, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.02)


def stored(heard: list[Heard]) -> Mapping[int, Mapping[str, object]]:
    """By time: every reading of DDATA."""
    found: dict[int, dict[str, object]] = defaultdict(dict)
    for one in heard:
        for metric in one.payload.metrics:
            found[metric.timestamp_ms][metric.name] = metric.value
    return found


def test_a_node_is_born_tells_all_it_sampled_and_dies(host: Host, fleet: Any) -> None:
    run = fleet(nodes=2)
    outcome = run.go(1.0)
    assert (outcome.kept, outcome.unfinished) == (0, ())
    for node in ("sim-0000", "sim-0001"):
        births, deaths = host.of(MessageType.NBIRTH, node), host.of(MessageType.NDEATH, node)
        assert [one.payload.seq for one in births] == [0]
        assert [one.payload.seq for one in host.of(MessageType.DBIRTH, node)] == [1]
        assert births[0].payload.metrics[0].name == BD_SEQ
        assert [one.payload.metrics[0].value for one in (births[0], *deaths)] == [0, 0]
        assert deaths[0].payload.seq is None
        samples = run.samples(node)
        assert len(samples) >= 8
        assert stored(host.of(MessageType.DDATA, node)) == {one.source_at: one.values for one in samples}
        assert host.numbers(node) == list(range(1, len(samples) + 1))
        seqs = [one.payload.seq for one in host.of(MessageType.DDATA, node)]
        assert seqs == list(range(2, len(samples) + 2))
    header = next(iter(read_ledger(run.ledger)))
    assert isinstance(header, Header)


def test_nothing_is_forgotten_before_the_host_has_said_so(host: Host, fleet: Any) -> None:
    host.is_durable = False
    run = fleet(nodes=1, drain_s=0.5)
    outcome = run.go(0.5)
    assert outcome.kept == len(run.samples("sim-0000")) > 0
    assert outcome.unfinished == ("sim-0000",)
    assert outcome.counts.durable == 0


def test_without_an_answer_it_sends_again(host: Host, fleet: Any) -> None:
    host.is_durable = False
    run = fleet(nodes=1, resend_after_s=0.3)

    async def answer_late() -> Outcome:
        running = asyncio.ensure_future(run(0.5))
        await until("sent again", lambda: len(host.of(MessageType.DDATA)) > len(set(host.numbers("sim-0000"))))
        host.is_durable = True
        return await running

    outcome = asyncio.run(answer_late())
    host.settle()
    assert outcome.kept == 0
    assert outcome.counts.sent_again > 0
    assert stored(host.of(MessageType.DDATA)) == {one.source_at: one.values for one in run.samples("sim-0000")}


def test_births_come_when_they_are_asked_for(host: Host, fleet: Any) -> None:
    run = fleet(nodes=1)

    async def ask() -> None:
        running = asyncio.ensure_future(run(1.5))
        await until("data", lambda: host.of(MessageType.DDATA))
        host.ask_births("sim-0000")
        await until("born again", lambda: len(host.of(MessageType.NBIRTH)) == 2)
        await running

    asyncio.run(ask())
    host.settle()
    first, again = host.of(MessageType.NBIRTH)
    assert [metric.value for metric in again.payload.metrics] == [metric.value for metric in first.payload.metrics]
    assert (again.payload.seq, len(host.of(MessageType.DBIRTH)), len(host.of(MessageType.NDEATH))) == (0, 2, 1)


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_line_that_is_lost_costs_nothing(host: Host, fleet: Any, is_silent: bool) -> None:  # noqa: FBT001 - pytest's way
    outages = [{"start_s": 0.5, "duration_s": 0.8, "silent": is_silent}]
    run = fleet(nodes=2, outages=outages, divert_after_s=0.3)
    outcome = run.go(2.0)
    assert outcome.kept == 0
    assert outcome.counts.lines_lost == 2
    for node in ("sim-0000", "sim-0001"):
        data = host.of(MessageType.DDATA, node)
        assert stored(data) == {one.source_at: one.values for one in run.samples(node)}
        assert len(run.samples(node)) >= 15, "it went on sampling"
        assert any(metric.is_historical for one in data for metric in one.payload.metrics)
        # The will of the first connection was told: when it was cut, or when its place was taken.
        assert [one.payload.metrics[0].value for one in host.of(MessageType.NDEATH, node)] == [0, 1]
        assert [one.payload.metrics[0].value for one in host.of(MessageType.NBIRTH, node)] == [0, 1]
        assert {
            one.stamp.batch.epoch - min(one.stamp.batch.epoch for one in data if one.stamp) for one in data if one.stamp
        } == {0, 1}


def test_a_backlog_that_overflows_is_declared(host: Host, fleet: Any) -> None:
    run = fleet(nodes=1, max_kept=5, interval_s=0.05, outages=[{"start_s": 0.2, "duration_s": 1.2}])
    outcome = run.go(2.0)
    assert outcome.kept == 0
    assert outcome.counts.evicted > 5
    data = host.of(MessageType.DDATA)
    gaps = [metric for one in data for metric in one.payload.metrics if metric.name == GAP]
    told = stored([one for one in data if one.payload.metrics[0].name != GAP])
    missing = [one.source_at for one in run.samples("sim-0000") if one.source_at not in told]
    assert len(gaps) == outcome.counts.gaps > 0
    spans = [(gap.properties["from"].value, gap.properties["to"].value) for gap in gaps]
    assert missing
    assert all(any(low <= at <= high for low, high in spans) for at in missing)


def test_nodes_that_come_and_go(host: Host, fleet: Any) -> None:
    churn = {"share": 1, "mean_up_s": 0.5, "mean_away_s": 0.5, "killed": 0.5}
    run = fleet(nodes=4, churn=churn)
    outcome = run.go(3.0)
    assert outcome.kept == 0
    assert outcome.counts.connections > 8
    for number in range(4):
        node = f"sim-{number:04}"
        assert stored(host.of(MessageType.DDATA, node)) == {one.source_at: one.values for one in run.samples(node)}
        assert len(run.samples(node)) < 30, "it samples nothing while it is off"
        told = [one.payload.metrics[0].value for one in host.of(MessageType.NDEATH, node)]
        assert told == [one.payload.metrics[0].value for one in host.of(MessageType.NBIRTH, node)]


def test_it_waits_for_its_host_and_comes_back_with_it(host: Host, fleet: Any) -> None:
    host.tell_state(online=False)
    run = fleet(nodes=1, broker={"primary_host": host.group})

    async def come_and_go() -> Outcome:
        running = asyncio.ensure_future(run(4.0))
        await asyncio.sleep(0.5)
        assert not host.of(MessageType.NBIRTH)
        host.tell_state(online=True)
        await until("born", lambda: host.of(MessageType.DDATA))
        host.tell_state(online=False)
        await until("gone", lambda: host.of(MessageType.NDEATH))
        host.tell_state(online=True)
        await until("born again", lambda: len(host.of(MessageType.NBIRTH)) == 2)
        return await running

    outcome = asyncio.run(come_and_go())
    host.settle()
    assert outcome.kept == 0
    assert stored(host.of(MessageType.DDATA)) == {one.source_at: one.values for one in run.samples("sim-0000")}


def test_a_duplicating_node_and_a_foreign_one(host: Host, fleet: Any) -> None:
    twice = fleet(nodes=1, misbehaving={"duplicate": 1})
    twice.go(0.5)
    data = host.of(MessageType.DDATA)
    assert len(data) == 2 * len(twice.samples("sim-0000")) > 0
    foreign = fleet(nodes=1, prefix="odd", misbehaving={"foreign": 1})
    foreign.go(0.5)
    told = host.of(MessageType.DDATA, "odd-0000")
    assert {(one.qos, one.stamp) for one in told} == {(0, None)}
    assert len(told) == len(foreign.samples("odd-0000")) > 0
    assert not any(one.promised for one in foreign.samples("odd-0000"))
    # By name alone nobody can read it; of the first, one metric more has an alias that no birth has told.
    assert [len(one.payload.rejected) for one in told] == [4, *[3] * (len(told) - 1)]


def test_a_slow_node_is_slow_and_loses_nothing(host: Host, fleet: Any) -> None:
    run = fleet(nodes=1, slow={"share": 1, "pause_s": 0.25})
    outcome = run.go(1.0)
    assert outcome.kept == 0
    assert outcome.seconds > 0.25 * len(run.samples("sim-0000"))
    assert host.numbers("sim-0000") == list(range(1, len(run.samples("sim-0000")) + 1))
