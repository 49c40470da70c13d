"""What is commanded: births again, marks true and forged, orders for the agent, nonsense and floods."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest

from contract.delivery import DurableMark
from contract.topics import MessageType


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


def test_a_mark_beyond_what_the_spool_knows_begins_a_new_epoch(site: Any) -> None:
    bridge = site.bridge(answers=False)

    async def scenario() -> None:
        async with site.running() as rig:
            rig.put(3)
            await site.eventually(lambda: len(bridge.batches()) >= 3, "all out")
            epoch = bridge.batches()[0].stamp.batch.epoch
            bridge.answers = True
            bridge.command(site.node, DurableMark(epoch, 1000).to_payload(1))
            await site.eventually(lambda: any(m.stamp.batch.epoch > epoch for m in bridge.batches()), "the new epoch")
            await rig.delivered()

    asyncio.run(scenario())
    epochs = Counter(message.stamp.batch.epoch for message in bridge.batches())
    assert len(epochs) == 2


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
