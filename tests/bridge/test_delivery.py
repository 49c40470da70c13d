"""The bridge as a process between a real Mosquitto and a real Kafka: what it delivers."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
import yaml
from kafka.admin import ConfigResource, ConfigResourceType

from contract.delivery import BatchId, BatchStamp, DurableMark

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bridge.conftest import World


def test_every_upstream_message_is_one_record_bytes_unchanged_and_in_order(world: World) -> None:
    bridge = world.bridge().start()
    node = world.node()
    sent = [(node.topic("NBIRTH"), b"\x00birth"), (node.topic("DBIRTH", "d"), b"\xff")]
    sent += [(node.topic("DDATA", "d"), os.urandom(300)) for _ in range(50)]
    sent += [(node.topic("NDATA"), b"health"), (node.topic("DDEATH", "d"), b""), (node.topic("NDEATH"), b"end")]
    for topic, payload in sent:
        node.publish(topic, payload)
    records = world.records(world.payloads, len(sent))
    assert [(record.headers.topic, record.value) for record in records] == sent
    assert {record.key for record in records} == {f"{world.group}/n".encode()}
    assert len({record.partition for record in records}) == 1
    assert bridge.stop() == 0


def test_marks_name_what_kafka_has_and_records_carry_their_batch(world: World, until: Callable[..., bool]) -> None:
    world.bridge().start()
    node = world.node()
    for batch_no in range(1, 101):
        node.data(batch_no)
    assert until(lambda: node.through == 100)
    records = world.records(world.payloads, 100)
    assert [record.headers.batch for record in records] == [BatchId(1, n) for n in range(1, 101)]
    assert len(node.marks) < 100, "marks are coalesced"
    node.marks.clear()
    node.data(40)
    assert until(lambda: node.marks == [DurableMark(1, 100)]), "a resent batch is answered"


def test_data_of_a_node_not_seen_to_be_born_asks_once_for_its_births(world: World, until: Callable[..., bool]) -> None:
    world.bridge().start()
    born, unborn = world.node("born"), world.node("unborn")
    born.publish(born.topic("NBIRTH"), b"birth")
    for batch_no in range(1, 21):
        born.data(batch_no)
        unborn.data(batch_no)
    assert until(lambda: born.through == unborn.through == 20)
    assert (born.rebirths, unborn.rebirths) == (0, 1)


def test_what_is_wrong_is_set_aside_with_its_reason_and_stops_nothing(world: World, until: Callable[..., bool]) -> None:
    bridge = world.bridge(limits={"max_payload_bytes": 200_000}).start()
    node = world.node()
    ddata = node.topic("DDATA", "d")
    node.publish(f"spBv1.0/{world.group}/XDATA/n", b"unknown type")
    node.publish(f"spBv1.0/{world.group}", b"no type")
    node.publish(node.topic("DDATA"), b"no device")
    node.publish(ddata, b"a" * 200_001, BatchStamp(BatchId(1, 1), 1))
    node.publish(ddata, b"", BatchStamp(BatchId(1, 2), 1))
    node.publish(ddata, b"fine", BatchStamp(BatchId(1, 3), 1))
    wrong = BatchStamp(BatchId(1, 4), 1)
    object.__setattr__(wrong, "oldest", 99)
    node.publish(ddata, b"wrong stamp", wrong)
    dead = world.records(world.dead_letters, 6)
    assert until(lambda: node.through == 3), "a set-aside batch is durable too, or it would come for ever"
    by_reason = {record.headers.reason or "": record for record in dead}
    assert len(dead) == len(by_reason) == 6
    for part in (
        "'XDATA'",
        f"'spBv1.0/{world.group}'",
        "needs a device",
        "200001 bytes",
        "without a payload",
        "hw-oldest",
    ):
        assert any(part in reason for reason in by_reason), part
    too_large = next(record for reason, record in by_reason.items() if "200001" in reason)
    assert too_large.value == b"a" * 65536
    assert too_large.headers.batch == BatchId(1, 1)
    assert [record.value for record in world.records(world.payloads, 1)] == [b"fine"]
    bridge.wait(lambda health: health["dead_letters"] == 6 and health["in_flight"] == 0)


def test_commands_and_host_states_are_neither_records_nor_dead_letters(
    world: World, until: Callable[..., bool]
) -> None:
    bridge = world.bridge(groups=["+"]).start()
    node = world.node()
    node.publish(node.topic("NCMD"), b"")
    node.publish(node.topic("DCMD", "d"), b"x")
    node.publish("spBv1.0/STATE/host", b"{}")
    node.data(1)
    assert until(lambda: node.through == 1)
    # The states of other hosts, which are retained, come as well.
    bridge.wait(lambda health: health["received"] >= 4 and health["in_flight"] == 0)
    health = bridge.health()
    assert health is not None
    assert (health["produced"], health["dead_letters"]) == (1, 0)


def test_a_record_that_kafka_finds_too_large_is_set_aside(world: World, until: Callable[..., bool]) -> None:
    world.kafka.create_topic(world.payloads, 1, {"max.message.bytes": "20000"})
    world.bridge().start()
    node = world.node()
    for batch_no in range(1, 21):
        node.data(batch_no, os.urandom(50_000 if batch_no % 10 == 0 else 50))
    assert until(lambda: node.through == 20)
    dead = world.records(world.dead_letters, 2)
    assert all("Kafka refused 50000 bytes" in (record.headers.reason or "") for record in dead)
    assert len(dead) == 2
    assert len(world.records(world.payloads, 18)) == 18


def test_a_limit_lowered_in_mid_run_sets_aside_only_what_is_too_large(world: World, until: Callable[..., bool]) -> None:
    world.bridge().start()
    node = world.node()
    node.data(1)
    assert until(lambda: node.through == 1)
    with world.kafka.admin() as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, world.payloads, {"max.message.bytes": "20000"})])
    for batch_no in range(2, 42):
        node.data(batch_no, os.urandom(50_000 if batch_no == 30 else 50))
    assert until(lambda: node.through == 41)
    dead = world.records(world.dead_letters, 1)
    assert {record.headers.batch for record in dead} == {BatchId(1, 30)}
    kept = {record.headers.batch.batch_no for record in world.records(world.payloads, 40) if record.headers.batch}
    assert kept == set(range(1, 42)) - {30}


def test_a_topic_that_goes_in_mid_run_is_named_and_waited_for(world: World, until: Callable[..., bool]) -> None:
    bridge = world.bridge()
    for topic in (world.payloads, world.dead_letters):
        world.kafka.create_topic(topic, 1)
    bridge.document["kafka"]["topics"]["create"] = False
    bridge._config.write_text(yaml.safe_dump(bridge.document))
    bridge.start()
    node = world.node()
    node.data(1)
    assert until(lambda: node.through == 1)
    with world.kafka.admin() as admin:
        admin.delete_topics([world.payloads])
    node.data(2)
    assert until(lambda: f"no topic {world.payloads}" in bridge.log), bridge.log
    world.kafka.create_topic(world.payloads, 1)
    assert until(lambda: node.through == 2), bridge.log
    assert [record.value for record in world.records(world.payloads, 1)] == [b"2"]


def test_a_bound_on_bytes_turns_messages_away_and_loses_none(world: World, until: Callable[..., bool]) -> None:
    bridge = world.bridge(limits={"max_in_flight_bytes": 1 << 20}).start()
    node = world.node()
    # While Kafka is suspended everything piles up, whatever the machine's speed.
    world.kafka.suspend()
    try:
        for batch_no in range(1, 41):
            node.data(batch_no, os.urandom(300_000))
        node.flush()
        bridge.wait(lambda health: health["turned_away"] > 0)
        health = bridge.health()
        assert health is not None
        assert health["in_flight_bytes"] <= 1 << 20
        assert health["mqtt_connected"]
    finally:
        world.kafka.resume()
    assert until(lambda: node.through == 40)
    batches = [record.headers.batch for record in world.records(world.payloads, 40)]
    assert {batch.batch_no for batch in batches if batch} == set(range(1, 41))


def test_what_comes_while_the_bridge_is_stopped_waits_for_it(world: World, until: Callable[..., bool]) -> None:
    bridge = world.bridge().start()
    assert bridge.stop() == 0
    node = world.node()
    for batch_no in range(1, 51):
        node.data(batch_no)
    node.flush()
    bridge.start()
    assert until(lambda: node.through == 50)
    assert len(world.records(world.payloads, 50)) == 50
    assert "session resumed" in bridge.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_delivers_what_is_in_flight_and_leaves_the_rest_to_the_broker(
    world: World, number: int, until: Callable[..., bool]
) -> None:
    bridge = world.bridge().start()
    node = world.node()
    for batch_no in range(1, 2001):
        node.data(batch_no)
        if batch_no == 1000:
            assert until(lambda: node.through > 0), "it is at work"
            bridge.process.send_signal(number)
    node.flush()
    assert bridge.process.wait(40) == 0
    assert "unacknowledged" not in bridge.log
    before = world.records(world.payloads, 1)
    assert until(lambda: node.through == len(before)), "the last marks are sent before the end"
    bridge.start()
    after = world.records(world.payloads, 2000)
    assert len(after) == 2000, "nothing twice: all that was confirmed was acknowledged before the end"
    assert [record.headers.batch for record in after] == [BatchId(1, n) for n in range(1, 2001)]
    assert len(before) < 2000


def test_a_stop_does_not_wait_for_kafka_longer_than_it_may(world: World, until: Callable[..., bool]) -> None:
    bridge = world.bridge(drain_timeout_s=1).start()
    node = world.node()
    world.kafka.suspend()
    try:
        node.data(1)
        bridge.wait(lambda health: health["in_flight"] == 1)
        assert bridge.stop(timeout_s=20) == 0
        assert "1 messages unacknowledged" in bridge.log
    finally:
        world.kafka.resume()
    bridge.start()
    assert until(lambda: node.through == 1)


def test_a_second_bridge_with_the_same_client_id_ends_the_first(world: World) -> None:
    first = world.bridge().start()
    world.bridge().start()
    assert first.process.wait(20) == 1
    assert "another client has taken the client id" in first.log


def test_eight_thousand_messages(world: World, until: Callable[..., bool], capsys: pytest.CaptureFixture[str]) -> None:
    bridge = world.bridge().start()
    node = world.node()
    started = time.monotonic()
    for batch_no in range(1, 8001):
        node.data(batch_no, b"x" * 1000, oldest=max(1, batch_no - 1000))
    assert until(lambda: node.through == 8000, 120)
    rate = 8000 / (time.monotonic() - started)
    with capsys.disabled():
        rss_mb = bridge.rss_bytes / 1e6
        sys.stdout.write(f"\nbridge: {rate:.0f} messages/s of 1 kB, publisher beside it; {rss_mb:.0f} MB resident\n")
    assert len(world.records(world.payloads, 8000)) == 8000
