"""What a node tells aside of its polls, as alarms: what became of commands, and how its updates go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.batch import NODE, batches_of_poll
from edge.lane import Lane
from edge.reading import Reading
from edge.update.telling import readings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.commands import CommandAnswer
    from edge.intake import Intake
    from edge.sources.base import Clock
    from edge.spool import Spool


class Aside:
    """Puts them into `spool`, each of a time of its own: two answers of one ms would be one reading."""

    def __init__(self, spool: Spool, intake: Intake, now_ms: Clock) -> None:
        self._spool = spool
        self._intake = intake
        self._now_ms = now_ms
        self._told_ms = 0

    def answer(self, device: str, answer: CommandAnswer, read_back: Reading | None) -> None:
        """Tells what became of a command, and with it the reading that a write brought."""
        told = answer.to_metric(now_ms := self._next_ms())
        readings = [Reading(told.name, told.datatype, told.value, now_ms)]
        if read_back is not None:
            self._intake.note(device, read_back)
            readings.append(read_back)
        self._tell(device, readings, now_ms)

    def tell_updates(self, told: Sequence[tuple[str, str]]) -> None:
        """Tells metrics of the node, by name, that say how its updates go."""
        now_ms = self._next_ms()
        self._tell(NODE, readings_of(told, now_ms), now_ms)

    def _tell(self, device: str, readings: Sequence[Reading], now_ms: int) -> None:
        for batch in batches_of_poll(device, readings, now_ms, now_ms, Lane.ALARM):
            self._spool.put(batch)

    def _next_ms(self) -> int:
        self._told_ms = max(self._now_ms(), self._told_ms + 1)
        return self._told_ms
