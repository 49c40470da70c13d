"""The bridge as a Sparkplug host, on real servers: its STATE, and nodes that know nothing of us.

The node here is built on raw protobuf, so that it shares no code with what it tests: QoS 0, aliases, no names and no
data types in its DATA, compressed where asked to, and births again when it is told to.
"""

from __future__ import annotations

import json
import threading
import zlib
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from contract import sparkplug_b_pb2 as pb
from contract.sparkplug import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bridge.conftest import Record, World

ALIASES = {"pressure": 100, "label": 101, "running": 102, "table": 103}
BIRTH = [
    pb.Metric(name="pressure", alias=100, datatype=10, double_value=0),
    pb.Metric(name="label", alias=101, datatype=12, string_value=""),
    pb.Metric(name="running", alias=102, datatype=11, boolean_value=False),
    pb.Metric(name="table", alias=103, datatype=16, is_null=True),
]
_numbers = count(1)


@dataclass
class StrangeNode:
    """A Sparkplug node of another make, MQTT 3.1.1."""

    port: int
    group: str
    births: int = 0
    seq: int = 0
    bd_seq: int = 3
    is_mute: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        name = f"strange-{self.group}-{next(_numbers)}"
        self.client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv311)
        self.client.will_set(self.topic("NDEATH"), self.death(), qos=1)
        self.client.on_message = self._on_message
        ready = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe(f"spBv1.0/{self.group}/NCMD/strange", qos=1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        assert ready.wait(10)

    def topic(self, kind: str, device: str = "") -> str:
        return "/".join(filter(None, ["spBv1.0", self.group, kind, "strange", device]))

    def death(self) -> bytes:
        return pb.Payload(metrics=[self._bd_metric()]).SerializeToString()

    def birth(self) -> None:
        with self._lock:
            self.births += 1
            self.seq = 0
            self._publish("NBIRTH", [self._bd_metric()])
            self._publish("DBIRTH", BIRTH, device="d")

    def data(self, *, compress: bool = False, skip: int = 0, **values: Any) -> None:
        fields = {float: "double_value", str: "string_value", bool: "boolean_value", bytes: "dataset_value"}
        metrics = [
            pb.Metric(alias=ALIASES[name], timestamp=1_700_000_000_000, **{fields[type(value)]: value})
            for name, value in values.items()
        ]
        with self._lock:
            self.seq += skip
            self._publish("DDATA", metrics, device="d", compress=compress)

    def _bd_metric(self) -> pb.Metric:
        return pb.Metric(name="bdSeq", datatype=8, long_value=self.bd_seq)

    def _publish(self, kind: str, metrics: list[pb.Metric], device: str = "", *, compress: bool = False) -> None:
        payload = pb.Payload(timestamp=1_700_000_000_000, metrics=metrics, seq=self.seq % 256).SerializeToString()
        if compress:
            payload = pb.Payload(uuid="SPBV1.0_COMPRESSED", body=zlib.compress(payload)).SerializeToString()
        self.seq += 1
        self.client.publish(self.topic(kind, device), payload, qos=0)

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        command = pb.Payload.FromString(bytes(message.payload))
        asked = any(m.name == "Node Control/Rebirth" and m.boolean_value for m in command.metrics)
        if asked and not self.is_mute:
            self.birth()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()


@pytest.fixture
def strange(world: World) -> Iterator[StrangeNode]:
    node = StrangeNode(world.mosquitto.port, world.group)
    yield node
    node.close()


class Listener:
    """Hears what is said on a STATE topic."""

    def __init__(self, port: int, topic: str) -> None:
        self.heard: list[dict[str, Any]] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, f"listener-{next(_numbers)}", protocol=paho.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_message = lambda _c, _u, message: self.heard.append(
            {**json.loads(message.payload), "retain": message.retain, "qos": message.qos}
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()


@pytest.fixture
def listen(world: World) -> Iterator[Callable[[str], Listener]]:
    listeners: list[Listener] = []

    def start(host_id: str) -> Listener:
        listeners.append(Listener(world.mosquitto.port, f"spBv1.0/STATE/{host_id}"))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()


def told(records: list[Record]) -> list[str]:
    """Births and deaths by type, DATA by its metrics, with `?` for each that was set aside."""
    lines = []
    for record in records:
        kind = record.headers.topic.split("/")[2]
        payload = decode(record.value)
        values = [f"{metric.name}={metric.value}" for metric in payload.metrics]
        lines.append(" ".join([*values, *["?"] * len(payload.rejected)]) if kind == "DDATA" else kind)
    return lines


def test_a_strange_node_is_read_by_name_whatever_it_leaves_out(world: World, strange: StrangeNode) -> None:
    bridge = world.bridge().start()
    strange.birth()
    strange.data(pressure=1.5, label="on")
    strange.data(compress=True, running=True, pressure=2.5)
    strange.data(table=b"\x08\x01", label="kept")
    records = world.records(world.payloads, 5)
    assert told(records) == ["NBIRTH", "DBIRTH", "pressure=1.5 label=on", "running=True pressure=2.5", "label=kept ?"]
    (table,) = decode(records[-1].value).rejected
    assert (table.name, "DATASET" in table.reason) == ("table", True)
    bridge.wait(lambda health: health["written_out"] == 3 and health["held"] == 0)
    assert strange.births == 1


def test_a_restarted_bridge_asks_for_births_and_names_nothing_wrongly(
    world: World, strange: StrangeNode, until: Callable[..., bool]
) -> None:
    bridge = world.bridge().start()
    strange.birth()
    strange.data(pressure=1.0)
    world.records(world.payloads, 3)
    bridge.kill()
    bridge.start()
    for number in range(20):
        strange.data(pressure=float(number))
    assert until(lambda: strange.births == 2)
    lines = told(world.records(world.payloads, 25))
    assert lines[3:5] == ["NBIRTH", "DBIRTH"]
    assert lines[5:] == [f"pressure={number}.0" for number in range(20)]
    assert strange.births == 2


def test_a_gap_is_waited_for_and_then_asked_about(world: World, strange: StrangeNode) -> None:
    bridge = world.bridge(host={"reorder_wait_s": 0.3}).start()
    strange.birth()
    strange.data(pressure=1.0)
    strange.data(pressure=2.0, skip=1)
    lines = told(world.records(world.payloads, 6))
    assert lines == ["NBIRTH", "DBIRTH", "pressure=1.0", "NBIRTH", "DBIRTH", "pressure=2.0"]
    bridge.wait(lambda health: health["seq_gaps"] == 1 and health["rebirths_asked"] == 1)


def test_a_node_that_does_not_answer_has_its_data_set_aside_with_the_reason(world: World, strange: StrangeNode) -> None:
    strange.is_mute = True
    world.bridge(host={"birth_wait_s": 0.3}).start()
    strange.data(pressure=1.0)
    (dead,) = world.records(world.dead_letters, 1)
    assert dead.headers.reason == "no birth tells the names and data types of alias 100"
    assert pb.Payload.FromString(dead.value).metrics[0].double_value == 1.0


def test_a_silent_node_at_qos_1_keeps_nobody_waiting_and_a_copy_is_safe(world: World, strange: StrangeNode) -> None:
    strange.is_mute = True
    bridge = world.bridge(host={"birth_wait_s": 60}).start()
    unexplained = pb.Payload(metrics=[pb.Metric(alias=100, double_value=1.0)]).SerializeToString()
    strange.client.publish(strange.topic("DDATA", "d"), unexplained, qos=1)
    bridge.wait(lambda health: health["held"] == 1)
    node = world.node()
    for number in range(1, 1001):
        node.data(number)
    # Far more than a broker has on its way at once.
    bridge.wait(lambda health: health["produced"] == 1001 and health["in_flight"] == 0)
    (copy,) = world.records(world.dead_letters, 1)
    assert (copy.value, (copy.headers.reason or "")[:6]) == (unexplained, "a copy")


def test_data_of_after_a_death_needs_a_new_birth_and_a_stale_death_is_ignored(
    world: World, strange: StrangeNode, until: Callable[..., bool]
) -> None:
    bridge = world.bridge().start()
    strange.birth()
    strange.bd_seq = 2
    strange.client.publish(strange.topic("NDEATH"), strange.death(), qos=0)
    strange.data(pressure=1.0)
    bridge.wait(lambda health: health["stale_deaths"] == 1)
    assert strange.births == 1
    strange.bd_seq = 3
    strange.client.publish(strange.topic("NDEATH"), strange.death(), qos=0)
    strange.data(pressure=2.0)
    assert until(lambda: strange.births == 2)
    lines = told(world.records(world.payloads, 8))
    assert lines == ["NBIRTH", "DBIRTH", "NDEATH", "pressure=1.0", "NDEATH", "NBIRTH", "DBIRTH", "pressure=2.0"]


def test_a_bad_compressed_payload_is_set_aside_and_stops_nothing(world: World, strange: StrangeNode) -> None:
    world.bridge(limits={"max_payload_bytes": 10_000}).start()
    strange.birth()
    bomb = pb.Payload(uuid="SPBV1.0_COMPRESSED", body=zlib.compress(bytes(5_000_000))).SerializeToString()
    strange.client.publish(strange.topic("DDATA", "d"), bomb, qos=0)
    strange.data(pressure=1.0)
    (dead,) = world.records(world.dead_letters, 1)
    assert "more than the 10000 allowed" in (dead.headers.reason or "")
    assert told(world.records(world.payloads, 3))[-1] == "pressure=1.0"


def test_state_is_retained_and_true_through_start_stop_and_kill(
    world: World, listen: Callable[[str], Listener], until: Callable[..., bool]
) -> None:
    host_id = f"host-{world.group}"
    listener = listen(host_id)
    bridge = world.bridge(host={"id": host_id, "offline_after_s": 0}).start()
    assert until(lambda: [word["online"] for word in listener.heard] == [True])
    birth = listener.heard[0]
    late = listen(host_id)
    assert until(lambda: len(late.heard) == 1)
    assert late.heard[0] == {**birth, "retain": True}
    assert birth["qos"] == 1
    bridge.kill()
    assert until(lambda: len(listener.heard) == 2)
    assert listener.heard[1] == {**birth, "online": False}, "the will has the birth's time"
    bridge.start()
    assert until(lambda: len(listener.heard) == 3)
    assert bridge.stop() == 0
    assert until(lambda: len(listener.heard) == 4)
    assert [word["online"] for word in listener.heard] == [True, False, True, False]
    times = [word["timestamp"] for word in listener.heard]
    assert times == sorted(times)
    last = listen(host_id)
    assert until(lambda: [word["online"] for word in last.heard] == [False])


def test_who_says_that_we_are_offline_is_contradicted(
    world: World, listen: Callable[[str], Listener], until: Callable[..., bool]
) -> None:
    host_id = f"bridge-{world.group}"
    listener = listen(host_id)
    world.bridge().start()
    assert until(lambda: len(listener.heard) == 1)
    lie = json.dumps({"online": False, "timestamp": listener.heard[0]["timestamp"] + 1000})
    node = world.node()
    node.client.publish(f"spBv1.0/STATE/{host_id}", lie, qos=1, retain=True)
    assert until(lambda: [word["online"] for word in listener.heard] == [True, False, True])
    assert listener.heard[2]["timestamp"] == listener.heard[1]["timestamp"]


def test_a_bridge_that_is_back_in_time_was_never_offline(
    world: World, listen: Callable[[str], Listener], until: Callable[..., bool]
) -> None:
    host_id = f"bridge-{world.group}"
    listener = listen(host_id)
    bridge = world.bridge(host={"offline_after_s": 60}).start()
    assert until(lambda: len(listener.heard) == 1)
    bridge.kill()
    bridge.start()
    assert until(lambda: len(listener.heard) == 2)
    assert [word["online"] for word in listener.heard] == [True, True]
