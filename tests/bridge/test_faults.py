"""The bridge when what it stands between dies, and when it dies itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.config import MqttConfig
from bridge.mqtt import Arrival, MqttLink
from bridge.packets import read_user_properties
from bridge.presence import Presence
from contract.delivery import BatchId, BatchStamp
from stack import Kafka, Mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bridge.errors import BridgeError
    from bridge.packets import Publish
    from tests.bridge.conftest import Record, World

    NewWorld = Callable[[Mosquitto, Kafka], World]

MB = 1_000_000


def batch_numbers(records: list[Record]) -> list[int]:
    """Each once, in the order in which they came first."""
    return list(dict.fromkeys(record.headers.batch.batch_no for record in records if record.headers.batch))


def test_a_bridge_killed_in_mid_stream_loses_nothing(world: World, until: Callable[..., bool]) -> None:
    bridge = world.bridge().start()
    node = world.node()
    for batch_no in range(1, 3001):
        node.data(batch_no, b"x" * 500)
        if batch_no in {1000, 2000}:
            bridge.wait(lambda health: health["produced"] > 0)
            bridge.kill()
            bridge.start(ready=False)
    node.flush()
    assert until(lambda: batch_numbers(world.records(world.payloads, 3000)) == [*range(1, 3001)])


def test_kafka_killed_for_longer_than_a_record_may_wait_loses_nothing(
    world: World, kafka: Kafka, until: Callable[..., bool]
) -> None:
    bridge = world.bridge().start()
    node = world.node()
    for batch_no in range(1, 2001):
        node.data(batch_no, b"x" * 500)
        if batch_no == 1000:
            bridge.wait(lambda health: health["produced"] > 0)
            kafka.kill()
    try:
        # Silence is told after 5 s; by then the producer (delivery_timeout_s: 3) has given its records up.
        bridge.wait(lambda health: not health["kafka_connected"])
    finally:
        kafka.start()
    node.flush()
    assert until(lambda: node.through == 2000, 90), bridge.log
    assert batch_numbers(world.records(world.payloads, 2000)) == [*range(1, 2001)]
    assert bridge.process.poll() is None
    assert "messages again" in bridge.log, "by a new producer"
    assert bridge.log.count("answers again") == 1
    assert bridge.log.count("messages wait, nothing is acknowledged") == 1


def test_servers_that_are_not_there_at_the_start_are_waited_for(
    new_world: NewWorld, until: Callable[..., bool]
) -> None:
    mosquitto, kafka = Mosquitto(), Kafka()
    try:
        world = new_world(mosquitto, kafka)
        bridge = world.bridge().start(ready=False)
        assert until(lambda: "cannot be reached" in (bridge.log if bridge.log_path.exists() else ""))
        kafka.start()
        bridge.wait(lambda health: health["kafka_connected"])
        assert until(lambda: f"127.0.0.1:{mosquitto.port} cannot be reached" in bridge.log)
        mosquitto.start()
        bridge.wait(lambda health: health["mqtt_connected"])
        node = world.node()
        node.data(1)
        assert until(lambda: node.through == 1)
        assert bridge.log.count("cannot be reached") == 2, "each is told once"
    finally:
        mosquitto.close()
        kafka.close()


def test_mosquitto_killed_and_its_store_deleted(new_world: NewWorld, kafka: Kafka, until: Callable[..., bool]) -> None:
    with Mosquitto() as mosquitto:
        world = new_world(mosquitto, kafka)
        bridge = world.bridge().start()
        node = world.node()
        for batch_no in range(1, 501):
            node.data(batch_no)
        kafka.suspend()
        try:
            for batch_no in range(501, 601):
                node.data(batch_no)
            bridge.wait(lambda health: health["in_flight"] > 0)
            mosquitto.kill()
            mosquitto.wipe()
            mosquitto.start()
            bridge.wait(lambda health: health["mqtt_connected"])
        finally:
            kafka.resume()
        assert until(node.client.is_connected)
        # What an agent does that hears no mark: it sends again.
        for batch_no in range(node.through + 1, 701):
            node.data(batch_no)
        assert until(lambda: node.through == 700), bridge.log
        assert set(batch_numbers(world.records(world.payloads, 700))) == set(range(1, 701))


class Catcher:
    """An MqttLink by itself, and what it has caught."""

    def __init__(self, port: int, group: str = "stale") -> None:
        self.arrivals: list[Arrival] = []
        config = MqttConfig(host="127.0.0.1", port=port, client_id=f"catcher-{group}")
        self.link = MqttLink(
            config, [group], [], Presence(f"catcher-{group}", 0), lambda _generation, offered: offered, self._report
        )
        self.link.start(100)

    def _report(self, event: Arrival | BridgeError) -> None:
        assert isinstance(event, Arrival)
        self.arrivals.append(event)

    @property
    def messages(self) -> list[Publish]:
        return [message for arrival in self.arrivals for message in arrival.messages]

    @property
    def generations(self) -> set[int]:
        return {arrival.generation for arrival in self.arrivals}

    def of(self, generation: int) -> list[Publish]:
        return [message for a in self.arrivals if a.generation == generation for message in a.messages]


def test_an_acknowledgement_from_before_a_lost_session_acknowledges_nothing(
    new_world: NewWorld, kafka: Kafka, until: Callable[..., bool]
) -> None:
    with Mosquitto() as mosquitto:
        world = new_world(mosquitto, kafka)
        world.group = "stale"
        catcher = Catcher(mosquitto.port)
        assert until(lambda: catcher.link.connected)
        node = world.node()
        for batch_no in range(1, 6):
            node.data(batch_no)
        assert until(lambda: len(catcher.messages) == 5)
        old, old_generation = catcher.messages, max(catcher.generations)
        mosquitto.kill()
        mosquitto.wipe()
        mosquitto.start()
        assert until(lambda: catcher.link.connected and catcher.link.generation > old_generation)
        assert until(node.client.is_connected)
        node.flush()
        for batch_no in range(6, 11):
            node.data(batch_no)
        assert until(
            lambda: {m.payload for m in catcher.of(catcher.link.generation)} >= {b"6", b"7", b"8", b"9", b"10"}
        )
        new, generation = catcher.of(catcher.link.generation), catcher.link.generation
        assert {m.message_id for m in old} & {m.message_id for m in new}, "the broker counts its ids anew"

        catcher.link.acknowledge(old_generation, [m.message_id for m in old])
        catcher.link.acknowledge(generation, [new[0].message_id])
        catcher.link.stop(5)
        again = Catcher(mosquitto.port)
        assert until(lambda: len(again.messages) >= len(new) - 1)
        assert [m.payload for m in again.messages] == [m.payload for m in new[1:]]
        again.link.stop(5)


def test_properties_that_paho_would_end_the_connection_over_are_read_or_left_out(
    world: World, until: Callable[..., bool]
) -> None:
    catcher = Catcher(world.mosquitto.port, world.group)
    assert until(lambda: catcher.link.connected)
    node = world.node()
    topic, properties = node.topic("DDATA", "d"), Properties(PacketTypes.PUBLISH)
    many = [("a", "b")] * 3000
    for number, pairs in enumerate(([("hw-epoch", "\ufeff")], many, BatchStamp(BatchId(1, 9), 9).to_properties())):
        properties.clear()
        properties.UserProperty = pairs
        node.client.publish(topic, b"%d" % number, qos=1, properties=properties)
    assert until(lambda: len(catcher.messages) == 3)
    found = [(message.payload, len(read_user_properties(message.properties))) for message in catcher.messages]
    assert found == [(b"0", 1), (b"1", 0), (b"2", 3)]
    assert catcher.generations == {catcher.link.generation}, "on one connection"
    catcher.link.acknowledge(catcher.link.generation, [m.message_id for m in catcher.messages])
    catcher.link.stop(5)


def test_memory_is_bounded_while_kafka_is_away(new_world: NewWorld, kafka: Kafka, until: Callable[..., bool]) -> None:
    with Mosquitto(max_queued_bytes=1 << 30) as mosquitto:
        world = new_world(mosquitto, kafka)
        bridge = world.bridge(limits={"max_in_flight_bytes": 16 << 20}).start()
        node = world.node()
        node.data(1)
        assert until(lambda: node.through == 1)
        before = bridge.rss_bytes
        kafka.suspend()
        try:
            payload = os.urandom(200_000)
            for batch_no in range(2, 502):
                node.data(batch_no, payload)
                if batch_no % 100 == 0:
                    node.flush()
            node.flush()
            bridge.wait(lambda health: health["turned_away"] > 0)
            grown = bridge.rss_bytes - before
            assert grown < 60 * MB, f"{grown / MB:.0f} MB for 100 MB offered"
            health = bridge.health()
            assert health is not None
            assert health["mqtt_connected"], "keep-alive goes on"
        finally:
            kafka.resume()
        assert until(lambda: node.through == 501, 120), bridge.log
        peak = bridge.rss_bytes - before
        assert peak < 90 * MB, f"{peak / MB:.0f} MB"
        assert batch_numbers(world.records(world.payloads, 501)) == [*range(1, 502)]


def test_a_broker_that_refuses_us_is_told_once_and_tried_again(
    new_world: NewWorld, kafka: Kafka, tmp_path: Path, until: Callable[..., bool]
) -> None:
    password_file = tmp_path / "passwords"
    password_file.write_text("")
    with Mosquitto(extra=[f"password_file {password_file}"]) as mosquitto:
        world = new_world(mosquitto, kafka)
        (tmp_path / "secret").write_text("wrong")
        user = {"username": "bridge", "password_file": str(tmp_path / "secret")}
        bridge = world.bridge(mqtt={"host": "127.0.0.1", "port": mosquitto.port, **user}).start(ready=False)
        assert until(lambda: mosquitto.log_path.read_text().count("not authorised") >= 3)
        assert bridge.log.count("MQTT: ") == 1
        assert "the broker refuses client id" in bridge.log
        assert bridge.stop() == 0
