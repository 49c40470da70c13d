"""Sensors that show the same value for longer than they ever did: what no distance from the usual can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from pydantic import Field

from contract.config import Config
from stream.analysis import rounds
from stream.analysis.rounds import SlotState
from stream.analysis.scores import Scores
from stream.analysis.spread import ROUNDING, follow_quantile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Steps

_PACE: Final = 0.03


class StuckConfig(Config):
    """When a value that stays the same is unusual; steps are the series' own."""

    memory_steps: float = Field(360, ge=10, description="steps over which it is learnt whether the series moves at all")
    lively: float = Field(
        0.7, gt=0, lt=1, description="share of the steps with another value, below which a series may well rest"
    )
    quantile: float = Field(0.999, gt=0.5, lt=1, description="of how long it stays the same, which is taken for usual")
    least_steps: float = Field(3.0, ge=1, description="steps for which any series may stay the same")


_FIELDS: Final = {
    "value": rounds.Field(np.nan),
    "lively": rounds.Field(0.0),
    "still": rounds.Field(0, np.int32),
    "usual": rounds.Field(0.0),
}


class StuckSensors:
    """Scores each step by how many times longer than usual the value has been the same: 1 is usual, 2 is not."""

    FORMAT: ClassVar[int] = 1

    def __init__(
        self, settings: StuckConfig, step_ms: int, arrays: Mapping[str, NDArray[np.generic]] | None = None
    ) -> None:
        self._settings = settings
        self._step_ms = step_ms
        self._state = SlotState(_FIELDS, arrays)
        self.arrays = self._state.arrays
        self.grow = self._state.grow

    def advance(self, steps: Steps) -> Scores:
        """The score of each of these steps; 0 while the series moves, or is not known to do so."""
        score = np.zeros(len(steps.slot))
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            for places in rounds.rounds(steps.slot):
                score[places] = self._stepped(steps.slot[places], steps.value[places])
        ends_ms = steps.at_ms + self._step_ms
        return Scores(steps.slot, ends_ms, steps.value, np.full(len(score), np.nan), score)

    def _stepped(self, slot: Slots, value: Floats) -> Floats:
        settings, row = self._settings, self._state.row
        last, lively, usual = row("value", slot), row("lively", slot), row("usual", slot)
        is_same = np.abs(value - last) <= ROUNDING * np.abs(value)
        still = np.where(is_same, row("still", slot) + 1, 0)
        usual = np.maximum(usual, settings.least_steps)
        score = np.where(lively >= settings.lively, still / usual, 0.0)
        self._state.put(
            slot,
            value=value,
            still=still,
            lively=lively + ((~is_same & np.isfinite(last)) - lively) / settings.memory_steps,
            usual=follow_quantile(usual, still.astype(np.float64), settings.quantile, _PACE),
        )
        return np.asarray(score, np.float64)
