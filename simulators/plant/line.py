"""The plant at work: physics, faults and set points, moved on step by step, and what its registers hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulators.plant.faults import IllegalAddress, StuckSensor, effects
from simulators.plant.memory import Block, Memory, is_legal
from simulators.plant.pdu import ExceptionCode, RefusedError, pack_words
from simulators.plant.points import from_registers, to_value
from simulators.plant.process import NOISE_COUNT, advance, first_line
from simulators.plant.readings import SET_POINTS, quantities
from simulators.plant.register_map import POINTS, UNITS
from simulators.plant.schedule import Schedule, ScheduledFault
from simulators.plant.site import Content, Site

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from simulators.ledger import Value
    from simulators.plant.faults import AnyFault


@dataclass(frozen=True, slots=True)
class Answer:
    """The registers (or bits) of a block, and the value of every point that lies wholly in it."""

    words: list[int]
    values: dict[str, Value]


class Plant(Site):
    """The whole plant; `step` moves forward only.

    What it holds at a step depends on the seed and the step alone, as long as no client writes and no fault
    is put in by hand.
    """

    def __init__(
        self, seed: int, faults: Iterable[AnyFault] = (), *, step_s: float = 0.1, day_s: float = 86_400.0
    ) -> None:
        self._step_s, self._day_s = step_s, day_s
        self._rng = np.random.default_rng([seed, NOISE_COUNT])
        self._schedule = Schedule(faults, step_s)
        self._stuck: dict[str, Value] = {}
        self._set_points = {name: set_point.default for name, set_point in SET_POINTS.items()}
        self._line = first_line(self._noise())
        self._memory: Memory | None = None

    @property
    def step(self) -> int:
        """The step it is at."""
        return self._line.step

    @property
    def active(self) -> tuple[ScheduledFault, ...]:
        """The faults that act at this step."""
        return self._schedule.active

    def move_to(self, step: int) -> tuple[list[ScheduledFault], list[ScheduledFault]]:
        """Move on to a step; the faults that started and ended on the way."""
        started: list[ScheduledFault] = []
        ended: list[ScheduledFault] = []
        while self._line.step < step:
            now_started, now_ended = self._move()
            started += now_started
            ended += now_ended
        return started, ended

    def _move(self) -> tuple[list[ScheduledFault], list[ScheduledFault]]:
        started, ended = self._schedule.move_to(self._line.step + 1)
        acting = effects(scheduled.fault for scheduled in self.active)
        self._line = advance(self._line, self._set_points, acting, self._noise(), self._step_s, self._day_s)
        self._memory = None
        if started or ended:
            self._stick()
        return started, ended

    def _stick(self) -> None:
        """Hold what stuck points show from now on, let go what sticks no more."""
        names = {s.fault.point for s in self.active if isinstance(s.fault, StuckSensor)}
        shown = quantities(self._line, self._set_points)
        self._stuck = {name: self._stuck.get(name, shown[name]) for name in names}

    def _noise(self) -> list[float]:
        noise: list[float] = self._rng.standard_normal(NOISE_COUNT).tolist()
        return noise

    def inject(self, fault: AnyFault) -> ScheduledFault:
        """Put in a fault by hand; its start counts from now."""
        return self._schedule.add(fault, self.step)

    @property
    def memory(self) -> Memory:
        """What the registers hold at this step."""
        if self._memory is None:
            self._memory = Memory(UNITS, {**quantities(self._line, self._set_points), **self._stuck})
        return self._memory

    @property
    def unit_ids(self) -> Collection[int]:
        """The units that are there."""
        return UNITS.keys()

    def names(self, unit_id: int, block: Block | None = None) -> list[str]:
        """The points of a unit, or those that lie wholly in a block of it."""
        return [point.name for point in UNITS[unit_id] if block is None or block.covers(point)]

    def content(self, block: Block) -> Content:
        """The answer to a read as it travels; raises RefusedError."""
        answer = self.read(block)
        return Content(pack_words(block.table, answer.words), answer.values)

    def read(self, block: Block) -> Answer:
        """The answer to a read; raises RefusedError."""
        self._refuse_by_fault(block)
        if not is_legal(UNITS[block.unit_id], block):
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        return Answer(self.memory.read(block), self.memory.values_in(block))

    def write(self, block: Block, words: Sequence[int]) -> dict[str, Value]:
        """Take in set points, and give them back; raises RefusedError unless whole, writable and in their range."""
        self._refuse_by_fault(block)
        points = [p for p in UNITS[block.unit_id] if block.covers(p) and p.name in SET_POINTS]
        if sum(point.width for point in points) != block.count:
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        written: dict[str, float] = {}
        for point in points:
            start = point.address - block.address
            value = float(to_value(point, from_registers(point, words[start : start + point.width])))
            allowed = SET_POINTS[point.name]
            if math.isnan(value) or not allowed.low <= value <= allowed.high:
                raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
            written[point.name] = value
        self._set_points |= written
        self._memory = None
        return {name: self.memory.values[name] for name in written}

    def _refuse_by_fault(self, block: Block) -> None:
        for scheduled in self.active:
            match scheduled.fault:
                case IllegalAddress(point=name) if POINTS[name] in UNITS[block.unit_id] and block.touches(POINTS[name]):
                    raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
                case _:
                    pass
