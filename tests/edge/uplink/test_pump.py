"""Paho driven by the event loop: what the socket does not take at once goes out all the same."""

from __future__ import annotations

import asyncio
from typing import Any

from edge.uplink.config import MqttConfig
from edge.uplink.link import LOST, NO_MATCHING_SUBSCRIBERS, Link

# Together more than the socket's buffers hold, so that writing has to wait for the broker.
LARGE, MESSAGES = bytes(3_000_000), 6


async def publish_to_a_broker_that_hangs(site: Any) -> tuple[Link, list[asyncio.Future[int]]]:
    config = MqttConfig(host="127.0.0.1", port=site.port)
    link = await Link.connect(config, "large", ("will", b""), lambda _: None)
    site.broker.suspend()
    answers = [link.publish("nobody/listens", LARGE) for _ in range(MESSAGES)]
    await site.eventually(lambda: is_waiting(link), "the socket is full")
    return link, answers


def is_waiting(link: Link) -> bool:
    return link._pump._is_writing


def test_what_the_socket_does_not_take_at_once_is_sent_when_it_does(site: Any) -> None:
    async def scenario() -> None:
        link, answers = await publish_to_a_broker_that_hangs(site)
        site.broker.resume()
        assert await asyncio.gather(*answers) == [NO_MATCHING_SUBSCRIBERS] * MESSAGES
        assert not is_waiting(link), "nobody watches a socket for room that nobody needs"
        await link.close()

    asyncio.run(scenario())


def test_a_link_whose_broker_hangs_ends_with_every_message_unanswered(site: Any) -> None:
    async def scenario() -> None:
        link, answers = await publish_to_a_broker_that_hangs(site)
        await link.close()
        site.broker.resume()
        assert await asyncio.gather(*answers) == [LOST] * MESSAGES
        assert link.lost.result() == "closed"

    asyncio.run(scenario())
