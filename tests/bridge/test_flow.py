from __future__ import annotations

from typing import Any

from bridge.cluster import topic_settings
from bridge.config import BridgeConfig, KafkaConfig, TopicsConfig
from bridge.flow import Bridge


class FakeLink:
    """Notes each start; every start is a new connection."""

    generation = 1

    def __init__(self) -> None:
        self.started: list[int] = []

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


def test_a_created_topic_asks_for_as_many_replicas_as_may_be_missed_one() -> None:
    for factor, least in ((1, "1"), (2, "1"), (3, "2")):
        config = KafkaConfig(bootstrap_servers=("k:9092",), topics=TopicsConfig(replication_factor=factor))
        assert topic_settings(config, 1)["configs"]["min.insync.replicas"] == least
