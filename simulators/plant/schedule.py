"""Which faults act at which step: from the scenario, from a seed or on demand. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulators.plant.faults import AnyFault


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """A fault between two steps, the last not included."""

    fault: AnyFault
    from_step: int
    to_step: int


class Schedule:
    """Which faults act at which step; time only goes forward."""

    def __init__(self, faults: Iterable[AnyFault], step_s: float) -> None:
        self._step_s = step_s
        self._pending: list[ScheduledFault] = []
        self.active: tuple[ScheduledFault, ...] = ()
        for fault in faults:
            self.add(fault, 0)

    def add(self, fault: AnyFault, now_step: int) -> ScheduledFault:
        """Take in a fault whose start counts from a step; it acts from the next step at the earliest."""
        from_step = max(now_step + round(fault.start_s / self._step_s), now_step + 1)
        to_step = from_step + max(round(fault.duration_s / self._step_s), 1)
        scheduled = ScheduledFault(fault, from_step, to_step)
        self._pending.append(scheduled)
        self._pending.sort(key=lambda pending: pending.from_step)
        return scheduled

    def move_to(self, step: int) -> tuple[list[ScheduledFault], list[ScheduledFault]]:
        """What starts and what ends with this step."""
        ended = [scheduled for scheduled in self.active if scheduled.to_step <= step]
        started = []
        while self._pending and self._pending[0].from_step <= step:
            started.append(self._pending.pop(0))
        if started or ended:
            self.active = (*(s for s in self.active if s.to_step > step), *started)
        return started, ended
