"""What is commanded: births again, orders for the agent, nonsense and floods."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from contract.commands import RELOAD
from contract.datatypes import DataType
from contract.sparkplug import REBIRTH, Metric, Payload, encode
from contract.topics import MessageType
from edge.batch import NODE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def test_rebirth_sends_all_births_again_with_the_same_number(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running() as rig:
            rig.put(3)
            await rig.delivered()
            bridge.ask_rebirth(site.node)
            await site.eventually(lambda: len(bridge.of_type(MessageType.DBIRTH)) == 2, "the second births")
            rig.put(1)
            await rig.delivered()

    asyncio.run(scenario())
    assert [m.payload.metrics[0].value for m in bridge.of_type(MessageType.NBIRTH)] == [0, 0]
    assert [m.payload.seq for m in bridge.received if m.payload.seq is not None] == [0, 1, 2, 3, 4, 0, 1, 2]


def publish_raw(port: int, topic: str, user_property: bytes, qos: int) -> None:
    """A PUBLISH with a user property that paho would not send."""

    def text(content: bytes) -> bytes:
        return len(content).to_bytes(2, "big") + content

    def packet(first: int, body: bytes) -> bytes:
        assert len(body) < 128
        return bytes([first, len(body)]) + body

    properties = b"\x26" + text(b"k") + text(user_property)
    mid = b"\0\1" if qos else b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(packet(0x10, text(b"MQTT") + b"\5\2\0\x3c\0" + text(b"raw")))
        assert connection.recv(100)[0] == 0x20
        connection.sendall(packet(0x30 | qos << 1, text(topic.encode()) + mid + bytes([len(properties)]) + properties))
        connection.sendall(b"\xc0\0")
        # The answer to the ping says that it has read what came before.
        answered = b""
        while not answered.endswith(b"\xd0\0"):
            answered += connection.recv(100)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_command_that_paho_cannot_read_costs_one_connection(site: Any, qos: int) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running() as rig:
            rig.put(1)
            await rig.delivered()
            await asyncio.to_thread(
                publish_raw, site.broker.port, f"spBv1.0/{site.group}/NCMD/{site.node}", b"\xef\xbb\xbf", qos
            )
            await site.eventually(lambda: rig.uplink.status.error, "the connection is lost")
            await site.eventually(lambda: rig.uplink.status.connected, "the next one")
            rig.put(1)
            await rig.delivered()
            assert rig.uplink.status.connections == 2

    asyncio.run(scenario())
    assert bridge.batch_numbers() == [1, 2]


def test_what_is_commanded_while_the_node_is_away_does_not_wait_for_it(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running() as rig:
            rig.put(1)
            await rig.delivered()

    asyncio.run(scenario())
    publish_raw(site.broker.port, f"spBv1.0/{site.group}/NCMD/{site.node}", b"\xef\xbb\xbf", 1)
    asyncio.run(scenario())
    assert bridge.batch_numbers() == [1, 2]
    assert len(bridge.of_type(MessageType.NBIRTH)) == 2


def boolean(name: str) -> Metric:
    return Metric(name, DataType.BOOLEAN, value=True, timestamp_ms=1)


def test_commands_to_node_and_devices_are_handed_to_the_agent(site: Any) -> None:
    bridge = site.bridge()
    write = Metric("level", DataType.DOUBLE, 2.5, 1)

    async def scenario() -> None:
        async with site.running() as rig:
            await site.eventually(lambda: rig.uplink.status.connected, "the connection")
            bridge.command(site.node, Payload(1, (boolean(REBIRTH),)))
            bridge.command(site.node, Payload(2, (boolean(RELOAD),)))
            bridge.publish(f"spBv1.0/{site.group}/DCMD/{site.node}/plant", encode(Payload(3, (write,))), qos=1)
            await site.eventually(lambda: len(rig.commands) >= 2, "both commands")
            assert rig.commands == [(NODE, Payload(2, (boolean(RELOAD),))), ("plant", Payload(3, (write,)))]

    asyncio.run(scenario())


def test_a_retained_command_is_nobodys(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    bridge = site.bridge()
    bridge.publish(f"spBv1.0/{site.group}/DCMD/{site.node}/plant", encode(Payload(3, (boolean("x"),))), retain=True)

    async def scenario() -> None:
        async with site.running() as rig:
            await site.eventually(lambda: "retained" in caplog.text, "it is told")
            assert rig.commands == []

    asyncio.run(scenario())


def test_nonsense_is_told_once_and_disturbs_nothing(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running() as rig:
            await site.eventually(lambda: rig.uplink.status.connected, "the connection")
            for n in range(50):
                bridge.publish(f"spBv1.0/{site.group}/NCMD/{site.node}", b"\x0a\xff" + bytes(n))
            rig.put(10)
            await rig.delivered()
            assert rig.uplink.status.connections == 1

    asyncio.run(scenario())
    assert caplog.text.count("is not understood") == 1


def flood_of(payload: bytes, count: int) -> Callable[[Any, Any], None]:
    def flood(site: Any, bridge: Any) -> None:
        for _ in range(count):
            bridge.publish(f"spBv1.0/{site.group}/NCMD/{site.node}", payload)

    return flood


LARGE = tuple(Metric(f"metric {n}", DataType.DOUBLE, 1.0, 1) for n in range(1500))
FLOODS: Sequence[Any] = [
    pytest.param(flood_of(encode(Payload(1, (boolean(REBIRTH),))), 20_000), id="rebirths"),
    pytest.param(flood_of(encode(Payload(1, LARGE)), 500), id="large commands"),
]


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_commands_stops_no_delivery(site: Any, flood: Callable[[Any, Any], None]) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running() as rig:
            await site.eventually(lambda: rig.uplink.status.connected, "the connection")
            rig.put(20)
            flooding = asyncio.create_task(asyncio.to_thread(flood, site, bridge))
            await rig.delivered()
            await flooding
            rig.put(20)
            await rig.delivered()
            assert rig.uplink.status.connections == 1
            assert len(rig.commands) < 50

    asyncio.run(scenario())
    assert set(bridge.batch_numbers()) == set(range(1, 41))
    assert len(bridge.of_type(MessageType.NBIRTH)) <= 6


def test_a_node_that_has_changed_is_born_again_and_what_it_lost_dies(site: Any) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running() as rig:
            await site.eventually(lambda: rig.uplink.status.connected, "the connection")
            rig.uplink.introduce(rig.identity("press", "oven"))
            await site.eventually(lambda: len(bridge.of_type(MessageType.DBIRTH)) == 3, "the new births")

    asyncio.run(scenario())
    site.wait_for(lambda: bridge.of_type(MessageType.NDEATH), "the death")
    said = [(m.topic.message_type.value, m.topic.device, m.payload.seq) for m in bridge.received]
    assert said == [
        ("NBIRTH", None, 0),
        ("DBIRTH", "plant", 1),
        ("DDEATH", "plant", 2),
        ("NBIRTH", None, 0),
        ("DBIRTH", "press", 1),
        ("DBIRTH", "oven", 2),
        ("NDEATH", None, None),
    ]
