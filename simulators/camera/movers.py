"""Who and what crosses the picture: a pure function of the seed and the time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Colour: TypeAlias = tuple[int, int, int]

_MOVER_STREAM: Final = 2


@dataclass(frozen=True, slots=True)
class Lane:
    """Where movers of one kind cross: the height of their feet, their size, and how often one may come."""

    vehicles: bool
    foot: float
    size: float
    every_s: float
    chance: float


LANES: Final = (
    Lane(vehicles=True, foot=0.455, size=0.085, every_s=11.0, chance=0.6),
    Lane(vehicles=True, foot=0.525, size=0.105, every_s=14.0, chance=0.5),
    Lane(vehicles=False, foot=0.575, size=0.16, every_s=17.0, chance=0.7),
    Lane(vehicles=False, foot=0.60, size=0.18, every_s=23.0, chance=0.5),
)


@dataclass(frozen=True, slots=True)
class Mover:
    """Someone or something that crosses the picture once."""

    enters_at_s: float
    speed: float
    """Widths of the picture in a second; negative to the left."""
    colour: Colour
    scale: float

    def place(self, at_s: float) -> float | None:
        """The share of the width at which it is, None while it is out of the picture."""
        travelled = (at_s - self.enters_at_s) * abs(self.speed) - 0.2
        if not -0.2 <= travelled <= 1.2:  # noqa: PLR2004 - a vehicle's length beyond each edge
            return None
        return travelled if self.speed > 0 else 1 - travelled


@lru_cache(maxsize=256)
def _mover(seed: int, lane_no: int, period: int) -> Mover | None:
    lane = LANES[lane_no]
    rng = np.random.default_rng([seed, _MOVER_STREAM, lane_no, period])
    comes, start, pace, way, scale = (float(x) for x in rng.uniform(size=5))
    if comes > lane.chance:
        return None
    speed = (0.16 + 0.12 * pace) if lane.vehicles else (0.05 + 0.04 * pace)
    blue, green, red = (int(c) for c in rng.integers(25, 215, size=3))
    enters_at_s = (period + start) * lane.every_s
    return Mover(enters_at_s, speed if way < 0.5 else -speed, (blue, green, red), 0.9 + 0.25 * scale)  # noqa: PLR2004 - half go each way


def movers(seed: int, lane_no: int, at_s: float) -> Iterator[tuple[Mover, float]]:
    """Who is in a lane at a time, and where."""
    lane = LANES[lane_no]
    slowest_crossing_s = 1.4 / (0.16 if lane.vehicles else 0.05)
    period = math.floor(at_s / lane.every_s)
    for earlier in range(math.ceil(slowest_crossing_s / lane.every_s) + 1, -1, -1):
        mover = _mover(seed, lane_no, period - earlier)
        place = mover.place(at_s) if mover else None
        if mover is not None and place is not None:
            yield mover, place
