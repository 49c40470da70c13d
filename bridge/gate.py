"""How much is let in: the bound on what waits for Kafka.

MQTT's receive maximum bounds the messages of one connection, nothing bounds their bytes, and a broker that
comes and goes brings the same messages anew on each connection. A message that would pass the bound is
not taken: it is neither kept nor acknowledged, and nor is any later one of its connection, for order's sake.
The broker keeps them and sends them again on the next connection, which the bridge makes once it has
delivered all it had (`starved`). So on_message never blocks, and keep-alive goes on.
"""

from __future__ import annotations

import threading
from typing import Final

_NEVER: Final = -1


class Gate:
    """Counts what is in flight. `admit` runs in the MQTT thread, the rest anywhere: all under one lock."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._closed = False
        self._refused_generation = _NEVER
        self._messages = 0
        self._bytes = 0
        self._room = max_messages
        self._turned_away = 0

    def admit(self, generation: int, size_bytes: int, *, again: bool) -> bool:
        """Whether a message is taken; `again`: the broker will send it anew if not (QoS 1).

        With nothing in flight any size is taken, so that one huge message cannot stop everything.
        """
        with self._lock:
            if self._closed or generation == self._refused_generation:
                self._turned_away += 1
                return False
            full = self._messages >= self._max_messages or self._bytes + size_bytes > self._max_bytes
            if full and self._messages:
                self._turned_away += 1
                if again:
                    self._refused_generation = generation
                    self._room = self._messages
                return False
            self._messages += 1
            self._bytes += size_bytes
            return True

    def release(self, size_bytes: int) -> None:
        """Take note that a message is out of the bridge's hands."""
        with self._lock:
            self._messages -= 1
            self._bytes -= size_bytes

    def readmit(self, size_bytes: int) -> None:
        """Count a message that was let in before, and held elsewhere meanwhile."""
        with self._lock:
            self._messages += 1
            self._bytes += size_bytes

    def close(self) -> None:
        """Let nothing in any more."""
        with self._lock:
            self._closed = True

    def starved(self, generation: int) -> int | None:
        """Whether all is delivered and this connection can bring no more, having had a message refused.

        Then: how many messages a new connection should offer at once; else None.
        """
        with self._lock:
            if self._closed or self._messages or generation != self._refused_generation:
                return None
            return self._room

    @property
    def messages(self) -> int:
        """How many messages are in flight."""
        return self._messages

    @property
    def bytes(self) -> int:
        """How many payload bytes are in flight."""
        return self._bytes

    @property
    def turned_away(self) -> int:
        """How many messages were left with the broker, or, at QoS 0, dropped."""
        return self._turned_away
