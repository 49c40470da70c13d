"""Retained messages beside the commands: some are listened for, others fetched one at a time when they are wanted.

Both come over the readings' own connection, since a node has but one identity. They are told apart before the inbox of
commands and marks, whose allowance they must not use up, and they are asked for at a rate of our own choice. Whatever
the broker refuses of them leaves the readings as they are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from contract.update import NAMESPACE
from edge.errors import UplinkError
from edge.uplink.seldom import Seldom
from edge.uplink.turns import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge.uplink.inbox import Incoming
    from edge.uplink.link import Link

logger = logging.getLogger(__name__)

_PREFIX: Final = f"{NAMESPACE}/"
# Whoever floods us with them is not listened to: each is some work to check.
_MESSAGES_PER_S: Final = 5.0
_AT_ONCE: Final = 100


class Retained:
    """Listens on `filters` over every connection, and gives each message (topic, payload) to `take`."""

    def __init__(self, filters: Sequence[str], take: Callable[[str, bytes], None]) -> None:
        self._filters = filters
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._listening: asyncio.Task[None] | None = None
        self._expected: tuple[str, asyncio.Future[bytes]] | None = None
        self._rate = Bucket(_MESSAGES_PER_S, _AT_ONCE)
        self._excess = Seldom()

    def connected(self, link: Link) -> None:
        """There is a connection, and births are sent."""
        self._link = link
        self._listening = self._loop.create_task(self._listen(link), name="retained messages")

    def lost(self) -> None:
        """The connection has gone."""
        self._link = None
        if self._listening is not None:
            self._listening.cancel()

    def offer(self, message: Incoming) -> bool:
        """Takes a message, if it is one of these."""
        if not message.topic.startswith(_PREFIX):
            return False
        if self._expected is not None and self._expected[0] == message.topic:
            if not self._expected[1].done():
                self._expected[1].set_result(message.payload)
            return True
        now_s = time.monotonic()
        if self._rate.wait_s(now_s):
            if self._excess.speaks(now_s):
                logger.warning("messages on %s come too fast: some are dropped unread", _PREFIX)
            return True
        self._rate.take(1, now_s)
        self._loop.call_soon(self._take, message.topic, message.payload)
        return True

    async def fetch(self, topic: str, timeout_s: float) -> bytes:
        """The retained message on a topic; raises UplinkError where there is none in time. One at a time."""
        if (link := self._link) is None:
            raise UplinkError("the broker is away")
        coming: asyncio.Future[bytes] = self._loop.create_future()
        self._expected = topic, coming
        try:
            async with asyncio.timeout(timeout_s):
                await link.subscribe(topic)
                either: list[asyncio.Future[bytes] | asyncio.Future[str]] = [coming, link.lost]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise UplinkError(f"nothing lies at the broker on {topic}") from None
        finally:
            self._expected = None
            link.unsubscribe(topic)
        if not coming.done():
            raise UplinkError("the connection was lost")
        return coming.result()

    async def _listen(self, link: Link) -> None:
        for topic in self._filters:
            try:
                await link.subscribe(topic)
            except UplinkError as exc:
                logger.warning("no updates are heard of: %s", exc)
