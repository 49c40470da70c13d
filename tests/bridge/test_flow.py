from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from bridge.cluster import topic_settings
from bridge.config import BridgeConfig, KafkaConfig, TopicsConfig
from bridge.flow import Bridge
from bridge.triage import Message
from contract import sparkplug_b_pb2 as pb
from contract.compression import COMPRESSED
from contract.delivery import BatchId, BatchStamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.triage import Letter


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
    huge = bridge._config.limits.max_in_flight_bytes
    assert bridge._gate.admit(1, huge, again=True)
    assert not bridge._gate.admit(1, huge, again=True)
    bridge._gate.release(huge)
    for now_s in (0.0, 1.0, 59.0):
        bridge._fit_room(now_s)
    assert link.started == [1]
    for now_s in (60.0, 61.0, 200.0):
        bridge._fit_room(now_s)
    assert link.started == [1, 1000]


class SlowSender:
    """Answers nothing until it is asked to."""

    def __init__(self) -> None:
        self.unanswered: list[Callable[[None], None]] = []

    def send(self, _letter: Letter, done: Callable[[None], None]) -> None:
        self.unanswered.append(done)

    def close(self, _timeout_s: float) -> None:
        pass


def test_small_payloads_that_hold_large_ones_are_unpacked_a_few_at_a_time() -> None:
    limits = {"max_payload_bytes": 1 << 20, "max_in_flight_bytes": 4 << 20}
    parts: dict[str, Any] = {"mqtt": {"host": "127.0.0.1"}, "kafka": {"bootstrap_servers": ["127.0.0.1:1"]}}
    bridge = Bridge(BridgeConfig.model_validate({**parts, "limits": limits}))
    sender: Any = SlowSender()
    link: Any = FakeLink()
    bridge._outbox._sender, bridge._link = sender, link
    large = pb.Payload(body=bytes(1_000_000)).SerializeToString()
    packed = pb.Payload(uuid=COMPRESSED, body=zlib.compress(large)).SerializeToString()
    for _ in range(50):
        assert bridge._gate.admit(1, len(packed), again=False)
        bridge._events.put(Message(1, 1, 0, "spBv1.0/g/NBIRTH/n", packed, (), 1))
    while bridge._counts.produced < 50:
        bridge._work(0.01)
        assert 0 < bridge._outbox.bytes <= (5 << 20)
        sender.unanswered.pop(0)(None)
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
    stamp = tuple(BatchStamp(BatchId(1, 1), 1).to_properties())
    for message_id, (node, body, properties) in enumerate([("foreign", unexplained, ()), ("ours", b"1", stamp)], 1):
        assert bridge._gate.admit(1, len(body), again=True)
        bridge._events.put(Message(1, message_id, 1, f"spBv1.0/g/NDATA/{node}", body, properties, 1))
    bridge._work(0.01)
    assert (bridge._foreign.health()["held"], link.acknowledged, len(sender.unanswered)) == (1, [], 2)
    for done in sender.unanswered:
        done(None)
    bridge._work(0.01)
    assert (bridge._foreign.health()["held"], link.acknowledged, bridge._gate.messages) == (1, [1, 2], 0)
