"""What is usual at this time of the day, learnt from the days before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from stream.analysis import rounds, spread
from stream.analysis.rounds import SlotState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Times

    _Mask: TypeAlias = NDArray[np.bool_]

# A part of the day is used from its third visit on: by then the spread around it is known from a whole day.
_VISITS: Final = 3
# Standard deviations by which one step counts at most.
_CLIP: Final = 2.0


class Season:
    """A level for each part of the season, a mean of what was there with outliers cut off, and the spread around it."""

    def __init__(
        self, season_s: float, parts: int, memory: float, arrays: Mapping[str, NDArray[np.generic]] | None
    ) -> None:
        self._part_s = season_s / parts
        self._parts = parts
        self._memory_s = memory * self._part_s
        levels = {"level": rounds.Field(0.0, np.float64, parts)}
        levels |= {name: rounds.Field(0, np.int32, parts) for name in ("steps", "visits")}
        fields = levels | {"part": rounds.Field(-1, np.int16)} | spread.FIELDS
        mine = None if arrays is None else {name: arrays[f"season_{name}"] for name in fields}
        self._state = SlotState(fields, mine)
        self.grow = self._state.grow
        self.forget = self._state.forget

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state."""
        return {f"season_{name}": array for name, array in self._state.arrays().items()}

    def usual(self, slot: Slots, at_ms: Times) -> tuple[Floats, Floats]:
        """The level at these times, and the standard deviation around it: infinite while too little is known, [n]."""
        part = self._part(at_ms)
        sigma = spread.sigma_of({name: self._state.row(name, slot) for name in spread.FIELDS})
        is_known = self._visits(slot, part) >= _VISITS
        return self._state["level"][slot, part], np.where(is_known, sigma, np.inf)

    def learn(self, slot: Slots, at_ms: Times, value: Floats, elapsed_s: Floats, sigma: Floats, learns: _Mask) -> None:
        """Take in the next step of these series; `sigma` [n] is by what outliers are told, `learns` bool [n]."""
        state, part = self._state, self._part(at_ms)
        level, steps, visits = state["level"][slot, part], state["steps"][slot, part], self._visits(slot, part)
        was = {name: state.row(name, slot) for name in spread.FIELDS}
        state.put(slot, **spread.followed(was, np.abs(value - level), sigma, learns & (visits > 1)))
        share = np.maximum(1 / (steps + 1.0), np.minimum(elapsed_s, self._part_s) / self._memory_s)
        off = np.where(steps == 0, value - level, np.clip(value - level, -_CLIP * sigma, _CLIP * sigma))
        state["level"][slot, part] = level + share * off
        state["steps"][slot, part] = steps + 1
        state["visits"][slot, part] = visits
        state.put(slot, part=part)

    def _part(self, at_ms: Times) -> NDArray[np.int64]:
        return np.asarray(at_ms / 1000 // self._part_s % self._parts, np.int64)

    def _visits(self, slot: Slots, part: NDArray[np.int64]) -> NDArray[np.int32]:
        """How many times the series was in this part, with this time."""
        return np.asarray(self._state["visits"][slot, part] + (self._state.row("part", slot) != part), np.int32)
