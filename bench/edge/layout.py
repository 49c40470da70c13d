"""What is polled: the same thousand points for every poller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNITS: Final = tuple(range(1, 11))


@dataclass(frozen=True, slots=True)
class Point:
    """One point of every unit; `datatype` as the agent spells it, big-endian."""

    name: str
    address: int
    datatype: str

    @property
    def size(self) -> int:
        """How many registers it takes."""
        return 1 if self.datatype == "uint16" else 2


# As devices are: a run of states, a run of measured values after a hole, and counters far off.
POINTS: Final = (
    *(Point(f"state{i}", i, "uint16") for i in range(50)),
    *(Point(f"measure{i}", 60 + 2 * i, "float32") for i in range(30)),
    *(Point(f"count{i}", 300 + 2 * i, "int32") for i in range(20)),
)
# Unused registers that a poller may read along: the hole before the measured values is bridged, the long one is not.
MAX_GAP: Final = 10
POINTS_PER_CYCLE: Final = len(UNITS) * len(POINTS)
