"""What the broker sends us, and no more of it than the agent can work off."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.uplink.turns import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

# A bridge sends some 10 marks of 100 bytes a second for each lane: far more is allowed, and still little work.
MESSAGES_PER_S: Final = 500.0
BYTES_PER_S: Final = 131_072.0
_BURST_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message; `retained`: it lay at the broker since before we subscribed."""

    topic: str
    payload: bytes
    retained: bool


class Inbox:
    """Takes messages, and tells `on_news` of the first after each `take`.

    What exceeds the rate is dropped, which bounds both memory and work: durable marks come again, and whoever commands
    so much gets no answer.
    """

    def __init__(self, on_news: Callable[[], object]) -> None:
        self.dropped = 0
        self._on_news = on_news
        self._messages: deque[Incoming] = deque()
        self._count = Bucket(MESSAGES_PER_S, MESSAGES_PER_S * _BURST_S)
        self._bytes = Bucket(BYTES_PER_S, BYTES_PER_S * _BURST_S)

    def offer(self, message: Incoming) -> None:
        """Takes a message, if there is room for it."""
        now_s = time.monotonic()
        if self._count.wait_s(now_s) or self._bytes.wait_s(now_s):
            self.dropped += 1
            return
        self._count.take(1, now_s)
        self._bytes.take(len(message.payload), now_s)
        self._messages.append(message)
        if len(self._messages) == 1:
            self._on_news()

    def take(self) -> list[Incoming]:
        """All that has come, oldest first."""
        messages = list(self._messages)
        self._messages.clear()
        return messages
