"""A unit on a line: how it is treated, what is known about it, and whether it has been answering."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.sources.modbus.learning import Experience

if TYPE_CHECKING:
    from edge.sources.modbus.blocks import Block
    from edge.sources.modbus.pieces import UnitPlan

_LONGEST_PAUSE_S: Final = 10.0
_MOST_DOUBLINGS: Final = 20
# Of the probes of a silent unit one in so many waits as long as the interval allows: it may have become slow.
_LONG_LOOK: Final = 3
# A silent unit is waited for so many times longer than it ever took to answer, if that is more than its share.
_SLOWNESS: Final = 3
_FORGETTING: Final = 0.99


@dataclass(frozen=True, slots=True)
class UnitTiming:
    """How a unit is treated."""

    interval_s: float
    pause_s: float = 0.0
    busy_retry_s: float | None = None
    recheck_s: float = 60.0


class Unit:
    """A unit on a line."""

    def __init__(self, plan: UnitPlan, timing: UnitTiming) -> None:
        self.unit_id = plan.unit_id
        self.experience = Experience(plan, timing.recheck_s)
        self.timing = timing
        self._slowest_s = 0.0  # answer of late
        self.due = 0.0  # loop time from which on it is asked again, when it is silent
        self.silence = ""  # why it is silent
        self._silent_polls = 0
        # Not always the same one in an agent that is started again and again.
        self._first_probe = random.randrange(len(plan.points))  # noqa: S311 - keeps no secret

    @property
    def is_silent(self) -> bool:
        """Whether it did not answer when it was last asked."""
        return self._silent_polls > 0

    def probe_wait_s(self, share_s: float, rest_s: float) -> float:
        """How long it is waited for while it is silent: its share of the interval, now and then the rest of it."""
        if self._silent_polls % _LONG_LOOK == 0:
            return max(share_s, rest_s)
        return max(share_s, self.patience_s)

    @property
    def patience_s(self) -> float:
        """How long its answers may well take, by what they took."""
        return _SLOWNESS * self._slowest_s

    def answered_after(self, elapsed_s: float) -> None:
        """It took so long to answer; what was long ago counts less and less."""
        self._slowest_s = max(elapsed_s, _FORGETTING * self._slowest_s)

    def ask_at_once(self) -> None:
        """End a pause."""
        self.due = 0.0

    def probe_block(self) -> Block:
        """What it is asked for while it is silent: another point each time, as one may be silent by itself."""
        return self.experience.probe_block(self._first_probe + self._silent_polls)

    def heard(self) -> None:
        """It answered in this poll."""
        self._silent_polls, self.silence = 0, ""

    def fell_silent(self, why: str, now: float) -> None:
        """It was asked in vain: it is asked less often, down to every ten seconds, as each time costs a time-out."""
        doublings = min(self._silent_polls, _MOST_DOUBLINGS)
        self.due = now + min(self.timing.interval_s * (2**doublings - 1), _LONGEST_PAUSE_S)
        self._silent_polls += 1
        self.silence = self.silence or why
