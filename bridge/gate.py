"""How much is let in: the bound on what waits for Kafka.

MQTT's receive maximum bounds the messages of one connection, nothing bounds their bytes, and a broker that
comes and goes brings the same messages anew on each connection. A message that would pass the bound is
not taken: it is neither kept nor acknowledged, and nor is any later one of its connection, for order's sake.
The broker keeps them and sends them again on the next connection, which the bridge makes once it has
delivered all it had (`starved`). So nothing blocks, and keep-alive goes on. What no broker sends again (QoS 0)
has room of its own: a flood of it is dropped, and takes none of the others'.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.packets import Publish

_NEVER: Final = -1


class Room:
    """What is in flight of one kind, and how much may be."""

    __slots__ = ("bytes", "max_bytes", "max_messages", "messages")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.messages = 0
        self.bytes = 0

    def add(self, messages: int, size_bytes: int) -> None:
        """Count them; negative: no more."""
        self.messages += messages
        self.bytes += size_bytes

    def take(self, size_bytes: int) -> bool:
        """Count a message if it fits; one of any size does when there is no other."""
        if self.messages and (self.messages >= self.max_messages or self.bytes + size_bytes > self.max_bytes):
            return False
        self.messages += 1
        self.bytes += size_bytes
        return True


class Gate:
    """Counts what is in flight. `admit` runs in the MQTT thread, the rest anywhere: all under one lock.

    `again` says which of two kinds a message is of: what is not taken the broker sends anew (QoS 1), or not (QoS 0).
    Of the latter as many messages may be in flight and half as many bytes.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._rooms = {True: Room(max_messages, max_bytes), False: Room(max_messages, max_bytes // 2)}
        self._closed = False
        self._refused_generation = _NEVER
        self._offer_at_once = max_messages
        self._turned_away = 0

    def admit(self, generation: int, offered: Iterable[Publish]) -> list[Publish]:
        """Those that are taken of what has come at once."""
        with self._lock:
            return [message for message in offered if self._takes(generation, message.size_bytes, message.qos > 0)]

    def _takes(self, generation: int, size_bytes: int, again: bool) -> bool:  # noqa: FBT001 - it is called for each message
        if not self._closed and generation != self._refused_generation:
            room = self._rooms[again]
            if room.take(size_bytes):
                return True
            if again:
                self._refused_generation = generation
                self._offer_at_once = room.messages
        self._turned_away += 1
        return False

    def release(self, messages: int, size_bytes: int, *, again: bool) -> None:
        """Take note that messages, of so many bytes together, are out of the bridge's hands."""
        with self._lock:
            self._rooms[again].add(-messages, -size_bytes)

    def readmit(self, size_bytes: int, *, again: bool) -> None:
        """Count a message that was let in before, and held elsewhere meanwhile."""
        with self._lock:
            self._rooms[again].add(1, size_bytes)

    def close(self) -> None:
        """Let nothing in any more."""
        with self._lock:
            self._closed = True

    def starved(self, generation: int) -> int | None:
        """Whether all is delivered and this connection can bring no more, having had a message refused.

        Then: how many messages a new connection should offer at once; else None.
        """
        with self._lock:
            if self._closed or self._rooms[True].messages or generation != self._refused_generation:
                return None
            return self._offer_at_once

    @property
    def messages(self) -> int:
        """How many messages are in flight."""
        return sum(room.messages for room in self._rooms.values())

    @property
    def bytes(self) -> int:
        """How many of their bytes are in flight."""
        return sum(room.bytes for room in self._rooms.values())

    @property
    def turned_away(self) -> int:
        """How many messages were left with the broker, or, at QoS 0, dropped."""
        return self._turned_away
