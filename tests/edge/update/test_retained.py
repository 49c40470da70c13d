"""Retained messages over the readings' own connection, at a real broker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from edge.errors import UplinkError
from edge.uplink import MqttConfig
from edge.uplink.link import Link
from edge.uplink.retained import Retained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edge.uplink.inbox import Incoming
    from stack import Mosquitto


@contextlib.asynccontextmanager
async def listening(broker: Mosquitto) -> AsyncIterator[tuple[Retained, Link, list[str], list[str]]]:
    """A line: what it gives to updates, and what else comes over it."""
    taken: list[str] = []
    others: list[str] = []
    retained = Retained(["headwater/g/desired/n/+/+"], lambda topic, _payload: taken.append(topic))

    def offer(message: Incoming) -> None:
        if not retained.offer(message):
            others.append(message.topic)

    link = await Link.connect(MqttConfig(host="127.0.0.1", port=broker.port), "n", ("will", b""), offer)
    retained.connected(link)
    try:
        yield retained, link, taken, others
    finally:
        retained.lost()
        await link.close()


def test_one_is_fetched_and_one_that_is_not_there_is_not_waited_for(broker: Mosquitto, operator: Any) -> None:
    operator.publish("headwater/g/blob/a/0", b"x" * 64_000)

    async def scenario() -> None:
        async with listening(broker) as (retained, _, taken, others):
            assert await retained.fetch("headwater/g/blob/a/0", 10) == b"x" * 64_000
            with pytest.raises(UplinkError, match="nothing lies at the broker on headwater/g/blob/a/1"):
                await retained.fetch("headwater/g/blob/a/1", 0.2)
            assert (taken, others) == ([], [])
            retained.lost()
            with pytest.raises(UplinkError, match="the broker is away"):
                await retained.fetch("headwater/g/blob/a/0", 10)

    asyncio.run(scenario())


def test_a_line_that_is_lost_ends_the_fetching(broker: Mosquitto, eventually: Any) -> None:
    async def scenario() -> None:
        async with listening(broker) as (retained, link, _, _):
            fetching = asyncio.create_task(retained.fetch("headwater/g/blob/a/1", 60))
            await eventually(lambda: link.in_flight == 0, "it is subscribed")
            await asyncio.to_thread(broker.kill)
            with pytest.raises(UplinkError, match=r"was lost|nothing lies|refuses"):
                await fetching

    asyncio.run(scenario())


def test_a_flood_of_them_leaves_commands_their_way(broker: Mosquitto, operator: Any, eventually: Any) -> None:
    for number in range(300):
        operator.client.publish(f"headwater/g/desired/n/config/{number}", b"nonsense", qos=1, retain=True)
    operator.publish("spBv1.0/g/NCMD/n", b"retained")

    async def scenario() -> None:
        async with listening(broker) as (_, link, taken, others):
            await eventually(lambda: len(taken) >= 100, "those that may come")
            await link.subscribe("spBv1.0/g/NCMD/n")
            await eventually(lambda: others, "a command")
            assert len(taken) < 150

    asyncio.run(scenario())
