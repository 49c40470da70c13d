"""One poll of one Modbus unit: every block asked once, and what goes wrong kept to the points it concerns."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from contract.sparkplug import Quality
from edge.reading import Reading
from edge.sources.modbus.blocks import Block
from edge.sources.modbus.line import ModbusLine, NoAnswer, NoConnection, Refusal
from edge.sources.modbus.points import PointConfig, ValueFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.datatypes import Value
    from edge.sources.base import Clock

# Time-outs in a row after which the rest of a unit is not asked in this poll.
_MISSES: Final = 2
_LONGEST_PAUSE_S: Final = 10.0
_MOST_DOUBLINGS: Final = 20
# After so long a block that was split is asked for as a whole again: the address may have been illegal for a while.
_MEND_S: Final = 60.0


@dataclass
class Budget:
    """The time one poll of the line may take, and whether there is a line."""

    deadline: float  # loop time
    request_timeout_s: float
    line_fault: str | None = None

    def for_one_request(self) -> float:
        """Seconds to wait for the next answer."""
        return min(self.request_timeout_s, self.deadline - asyncio.get_running_loop().time())

    def why_not(self) -> str | None:
        """Why nothing more is asked in this poll, if so."""
        if self.line_fault is None and self.for_one_request() <= 0:
            return "not asked: what did not answer used up the timeout_s"
        return self.line_fault


@dataclass
class Outcome:
    """What one poll of one unit brought."""

    answered: bool = False  # an exception code is an answer
    readings: list[Reading] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)  # place -> reason, the same words as long as it lasts

    def add(self, point: PointConfig, value: Value, at_ms: int) -> None:
        """A reading, of bad quality where there is no value."""
        quality = Quality.BAD if value is None else Quality.GOOD
        self.readings.append(Reading(point.name, point.metric_type, value, at_ms, quality))

    def spoil(self, block: Block, at_ms: int) -> None:
        """Readings without value for every point of a block."""
        for point in block.points:
            self.add(point, None, at_ms)

    def take(self, block: Block, answer: Sequence[int] | Sequence[bool], at_ms: int) -> None:
        """A reading for every point of a block that was answered."""
        for point in block.points:
            try:
                self.add(point, block.value_of(point, answer), at_ms)
            except ValueFault as exc:
                self.add(point, None, at_ms)
                self.faults[f"unit {block.unit_id} {point.table} {point.address} ({point.name})"] = str(exc)


class Unit:
    """A unit's plan of reads, and whether it has been answering."""

    def __init__(self, unit_id: int, blocks: Sequence[Block], interval_s: float) -> None:
        self._unit_id = unit_id
        self._whole = list(blocks)
        self._blocks = self._whole
        self._mend_at = 0.0  # loop time
        self._interval_s = interval_s
        self._silent_polls = 0
        self._silence = ""  # why it is silent
        self._pause_until = 0.0  # loop time

    @property
    def is_silent(self) -> bool:
        """Whether it did not answer when it was last asked."""
        return self._silent_polls > 0

    def ask_at_once(self) -> None:
        """End a pause."""
        self._pause_until = 0.0

    async def poll(self, line: ModbusLine, budget: Budget, now_ms: Clock) -> Outcome:
        """Readings of every point; raises nothing but a cancellation."""
        asking = _Asking(line, budget, now_ms, patience=1 if self.is_silent else _MISSES)
        now = asyncio.get_running_loop().time()
        if now < self._pause_until:
            asking.gave_up = self._silence
        asked = self._whole if now >= self._mend_at else self._blocks
        self._blocks = await asking.ask_all(asked)
        if len(self._blocks) > len(asked):
            self._mend_at = now + _MEND_S
        if asking.outcome.answered:
            self._silent_polls, self._silence = 0, ""
        elif asking.misses:
            self._fell_silent(asking.misses[0])
        asking.outcome.faults = self._summary(asking)
        return asking.outcome

    def _summary(self, asking: _Asking) -> dict[str, str]:
        """What is told of a poll: where all of the unit has the same fault, one line instead of one for each block."""
        unit, faults = f"unit {self._unit_id}", asking.outcome.faults
        if not asking.outcome.answered and (why := asking.gave_up or self._silence):
            return {unit: why}
        if asking.gave_up is not None:
            return faults | {unit: asking.gave_up}
        if len(faults) == len(self._blocks) > 1 and len(set(faults.values())) == 1:
            return {unit: next(iter(faults.values()))}
        return faults

    def _fell_silent(self, why: str) -> None:
        """Ask it less often, down to every ten seconds, as long as each time costs a time-out."""
        doublings = min(self._silent_polls, _MOST_DOUBLINGS)
        pause_s = min(self._interval_s * (2**doublings - 1), _LONGEST_PAUSE_S)
        self._silent_polls += 1
        self._silence = why
        self._pause_until = asyncio.get_running_loop().time() + pause_s


class _Asking:
    """One poll of one unit while it goes on."""

    def __init__(self, line: ModbusLine, budget: Budget, now_ms: Clock, *, patience: int) -> None:
        self._line = line
        self._budget = budget
        self._now_ms = now_ms
        self._patience = patience
        self._misses_in_a_row = 0
        self.misses: list[str] = []
        self.gave_up: str | None = None
        self.outcome = Outcome()

    async def ask_all(self, blocks: Sequence[Block]) -> list[Block]:
        """Ask for every block; returns the blocks to ask for next time."""
        pending, plan = deque(blocks), list[Block]()
        while pending:
            block = pending.popleft()
            self.gave_up = self.gave_up or self._budget.why_not()
            if self.gave_up is not None:
                self.outcome.spoil(block, self._now_ms())
            elif halves := await self._ask(block):
                pending.extendleft(reversed(halves))
                continue
            plan.append(block)
        return plan

    async def _ask(self, block: Block) -> Sequence[Block]:
        """Ask for a block; returns its halves where one of its addresses spoils it, else nothing."""
        try:
            answer = await self._line.read(block, self._budget.for_one_request())
        except Refusal as exc:
            self._heard()
            if exc.is_about_addresses and len(block.points) > 1:
                return block.halves()
            self._fail(block, str(exc))
        except NoAnswer as exc:
            self._fail(block, str(exc))
            self._missed(f"{block.where}: {exc}")
        except NoConnection as exc:
            self._budget.line_fault = str(exc)
            self._fail(block, str(exc))
        else:
            self._heard()
            self.outcome.take(block, answer, self._now_ms())
        return ()

    def _fail(self, block: Block, reason: str) -> None:
        self.outcome.spoil(block, self._now_ms())
        self.outcome.faults[f"unit {block.unit_id} {block.where}"] = reason

    def _heard(self) -> None:
        self.outcome.answered = True
        self._misses_in_a_row = 0

    def _missed(self, reason: str) -> None:
        self.misses.append(reason)
        self._misses_in_a_row += 1
        if self._misses_in_a_row >= self._patience:
            self.gave_up = self.misses[-self._misses_in_a_row]
