"""What a node measures: values that follow from seed, node, metric and the number of the sample alone. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from simulators.fleet.roster import drawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulators.fleet.config import FleetConfig
    from simulators.fleet.roster import Member

# Of ten metrics seven are measurements, two count, and one is a state.
_KINDS: Final = 10
_COUNTERS: Final = frozenset({3, 7})
_STATE: Final = 9


@dataclass(frozen=True, slots=True)
class Signal:
    """One metric: a wave, a counter or a switch, by its datatype; `period` is in samples."""

    name: str
    datatype: DataType
    unit: str | None
    level: float
    swing: float
    period: int

    def value(self, sample: int) -> float:
        """What it reads in a sample."""
        match self.datatype:
            case DataType.BOOLEAN:
                return sample // self.period % 2 == 0
            case DataType.INT64:
                return int(self.level) + sample
            case _:
                turn = 2 * math.pi * sample / self.period
                return round(self.level + self.swing * math.sin(turn + self.level), 3)


def signals_of(config: FleetConfig, member: Member) -> tuple[Signal, ...]:
    """The metrics of a member's device."""
    chance = drawn(config.seed, "signals", member.number)
    found = []
    for number in range(config.metrics):
        level, swing, period = chance.uniform(10, 100), chance.uniform(1, 10), chance.randint(20, 600)
        if number % _KINDS == _STATE:
            found.append(Signal(f"unit{number:03}/running", DataType.BOOLEAN, None, level, swing, period))
        elif number % _KINDS in _COUNTERS:
            found.append(Signal(f"unit{number:03}/pieces", DataType.INT64, None, level, swing, period))
        else:
            found.append(Signal(f"unit{number:03}/level", DataType.DOUBLE, "m", level, swing, period))
    return tuple(found)


def values(signals: tuple[Signal, ...], sample: int) -> Mapping[str, float]:
    """A whole sample, by metric."""
    return {signal.name: signal.value(sample) for signal in signals}
