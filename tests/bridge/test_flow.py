from __future__ import annotations

import random
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

from bridge.cluster import topic_settings
from bridge.config import BridgeConfig, KafkaConfig, TopicsConfig
from bridge.flow import Bridge
from bridge.mqtt import Arrival
from bridge.packets import PUBLISH, Publish
from contract import sparkplug_b_pb2 as pb
from contract.compression import COMPRESSED
from contract.delivery import BatchId, BatchStamp

if TYPE_CHECKING:
    from bridge.triage import Letter


def publish(topic: str, payload: bytes, properties: bytes = b"", message_id: int = 0) -> Publish:
    size_bytes = len(topic) + len(properties) + len(payload)
    return Publish(PUBLISH | (2 if message_id else 0), topic.encode(), message_id, properties, payload, size_bytes)


def arrive(bridge: Bridge, *messages: Publish) -> None:
    assert bridge._gate.admit(1, messages) == [*messages]
    bridge._events.put(Arrival(1, 1, deque(messages)))


class FakeLink:
    """Notes each start; every start is a new connection."""

    generation = 1

    def __init__(self) -> None:
        self.started: list[int] = []
        self.acknowledged: list[int] = []

    def command(self, *_asked: object) -> None:
        pass

    def acknowledge(self, _generation: int, message_ids: list[int]) -> None:
        self.acknowledged += message_ids

    def start(self, receive_maximum: int) -> None:
        self.started.append(receive_maximum)
        self.generation += 1

    def stop(self, _timeout_s: float, *, soon_back: bool) -> None:
        pass


def test_after_too_much_at_once_the_room_is_narrow_for_a_while_only() -> None:
    mqtt, kafka = {"host": "127.0.0.1"}, {"bootstrap_servers": ["127.0.0.1:1"]}
    bridge = Bridge(BridgeConfig.model_validate({"mqtt": mqtt, "kafka": kafka}))
    link: Any = FakeLink()
    bridge._link = link
    huge = publish("t", bytes(bridge._config.limits.max_in_flight_bytes), message_id=1)
    assert bridge._gate.admit(1, [huge, huge]) == [huge]
    bridge._gate.release(1, huge.size_bytes, again=True)
    for now_s in (0.0, 1.0, 59.0):
        bridge._fit_room(now_s)
    assert link.started == [1]
    for now_s in (60.0, 61.0, 200.0):
        bridge._fit_room(now_s)
    assert link.started == [1, 1000]


class SlowSender:
    """Answers nothing until it is asked to."""

    def __init__(self) -> None:
        self.unanswered: list[int] = []

    def send(self, number: int, _letter: Letter) -> None:
        self.unanswered.append(number)

    def flush(self) -> None:
        pass

    def answer(self, bridge: Bridge, count: int) -> None:
        numbers, self.unanswered = self.unanswered[:count], self.unanswered[count:]
        bridge._outbox._answered(0, numbers, None)

    def close(self) -> None:
        pass


def test_small_payloads_that_hold_large_ones_are_unpacked_a_few_at_a_time() -> None:
    limits = {"max_payload_bytes": 1 << 20, "max_in_flight_bytes": 4 << 20}
    parts: dict[str, Any] = {"mqtt": {"host": "127.0.0.1"}, "kafka": {"bootstrap_servers": ["127.0.0.1:1"]}}
    bridge = Bridge(BridgeConfig.model_validate({**parts, "limits": limits}))
    sender: Any = SlowSender()
    link: Any = FakeLink()
    bridge._outbox._sender, bridge._link = sender, link
    # Random, or a hundred times as much is in it as may be.
    large = pb.Payload(body=random.Random(1).randbytes(20_000) * 50).SerializeToString()
    packed = pb.Payload(uuid=COMPRESSED, body=zlib.compress(large)).SerializeToString()
    for _ in range(10):
        arrive(bridge, *[publish("spBv1.0/g/NBIRTH/n", packed)] * 5)
    while bridge._counts.produced < 50:
        bridge._work(0.01)
        assert 0 < bridge._outbox.bytes <= (5 << 20)
        sender.answer(bridge, 1)
        bridge._work(0.01)
    assert bridge._gate.messages == bridge._outbox.bytes == 0


def test_a_created_topic_asks_for_as_many_replicas_as_may_be_missed_one() -> None:
    for factor, least in ((1, "1"), (2, "1"), (3, "2")):
        config = KafkaConfig(bootstrap_servers=("k:9092",), topics=TopicsConfig(replication_factor=factor))
        assert topic_settings(config, 1)["configs"]["min.insync.replicas"] == least


def test_a_node_that_no_birth_explains_keeps_nobodys_acknowledgement_back() -> None:
    parts: dict[str, Any] = {"mqtt": {"host": "127.0.0.1"}, "kafka": {"bootstrap_servers": ["127.0.0.1:1"]}}
    bridge = Bridge(BridgeConfig.model_validate(parts))
    sender: Any = SlowSender()
    link: Any = FakeLink()
    bridge._outbox._sender, bridge._link = sender, link
    unexplained = pb.Payload(metrics=[pb.Metric(alias=1, double_value=1.0)]).SerializeToString()
    stamp = b"".join(
        b"\x26" + b"".join(len(text).to_bytes(2) + text.encode() for text in pair)
        for pair in BatchStamp(BatchId(1, 1), 1).to_properties()
    )
    arrive(
        bridge,
        publish("spBv1.0/g/NDATA/foreign", unexplained, message_id=1),
        publish("spBv1.0/g/NDATA/ours", b"1", stamp, message_id=2),
    )
    bridge._work(0.01)
    assert (bridge._foreign.health()["held"], link.acknowledged, len(sender.unanswered)) == (1, [], 2)
    sender.answer(bridge, 2)
    bridge._work(0.01)
    assert (bridge._foreign.health()["held"], link.acknowledged, bridge._gate.messages) == (1, [1, 2], 0)


def test_what_comes_to_be_held_after_a_stop_goes_on_too() -> None:
    parts: dict[str, Any] = {"mqtt": {"host": "127.0.0.1"}, "kafka": {"bootstrap_servers": ["127.0.0.1:1"]}}
    bridge = Bridge(BridgeConfig.model_validate(parts))
    sender: Any = SlowSender()
    link: Any = FakeLink()
    bridge._outbox._sender, bridge._link = sender, link
    unexplained = pb.Payload(metrics=[pb.Metric(alias=1, double_value=1.0)]).SerializeToString()
    arrive(bridge, publish("spBv1.0/g/NDATA/foreign", unexplained))
    bridge.stop()
    assert not bridge._finished(), "it was let in, and is not looked at yet"
    bridge._work(0.01)
    assert bridge._foreign.health()["held"] == 1
    assert not bridge._finished()
    assert (bridge._foreign.health()["held"], len(sender.unanswered)) == (0, 1)
    sender.answer(bridge, 1)
    bridge._work(0.01)
    bridge._work(0.01)
    assert bridge._finished()
