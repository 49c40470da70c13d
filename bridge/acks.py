"""In which order, and on which connection, messages are acknowledged to MQTT.

MQTT wants PUBACKs in the order of receipt, while Kafka's partitions answer in any order. And a message id
means something on one connection only: acknowledged on a later one it can name a message that never reached
Kafka, which is then lost. So every message carries the generation of the connection that brought it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Slot:
    """One message's place in the order of its connection."""

    __slots__ = ("_done", "generation", "message_id")

    def __init__(self, generation: int, message_id: int) -> None:
        self.generation = generation
        self.message_id = message_id
        self._done = False


class AckOrder:
    """Releases message ids in receive order, and only those of the newest connection seen."""

    def __init__(self) -> None:
        self.generation = 0
        self._waiting: deque[Slot] = deque()

    def receive(self, generation: int, message_id: int) -> Slot:
        """The place of a message that has come; one of a newer connection makes all older ones void."""
        slot = Slot(generation, message_id)
        if generation > self.generation:
            self.generation = generation
            self._waiting.clear()
        if generation == self.generation:
            self._waiting.append(slot)
        return slot

    def complete(self, slots: Iterable[Slot]) -> list[int]:
        """The message ids that may be acknowledged now that these messages are safe, oldest first."""
        for slot in slots:
            slot._done = True  # noqa: SLF001 - the slot is this class's own note
        released = []
        while self._waiting and self._waiting[0]._done:  # noqa: SLF001 - as above
            released.append(self._waiting.popleft().message_id)
        return released
