"""Where a series is, where it goes, and whether that has changed: a local linear trend with forgetting.

The model is the local linear trend with a discount factor and a learnt variance: West and Harrison, "Bayesian
Forecasting and Dynamic Models", 2nd ed. 1997, sections 6.3 (discounting) and 10.8 (variance). Innovations are cut off
as in Gelper, Fried and Croux, "Robust Forecasting with Exponential and Holt-Winters Smoothing", Journal of Forecasting
29(3), 2010. A change is told by the two-sided CUSUM of Page, "Continuous Inspection Schemes", Biometrika 41, 1954.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import numpy as np
from pydantic import Field

from contract.config import Config
from stream.analysis import rounds
from stream.analysis.rounds import SlotState
from stream.analysis.spread import ROUNDING, follow_quantile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Steps, Times

    _Columns: TypeAlias = dict[str, NDArray[Any]]

REGIMES: Final = ("flat", "up", "down", "changed")
_FLAT, _UP, _DOWN, _CHANGED = range(4)
# Of its second step a series may have come from anywhere: so many of its volatilities away.
_UNKNOWN_SLOPE: Final = 100.0
# Next steps that resemble the last ones tell little new; beyond this all of them count as one.
_MOST_CORRELATED: Final = 0.9
_CADENCE_PACE: Final = 0.05
_TYPICAL_PACE: Final = 0.05
# Of the typical change: a series that rests mostly is not off by less.
_FLOOR: Final = 0.3
_LARGEST: Final = 1e100


class TrendConfig(Config):
    """The trend of every numeric series; steps are the series' own, as often as it has any."""

    memory_steps: float = Field(60, ge=5, le=1000, description="steps; one that is as old counts 1/e of the newest")
    warmup_steps: int = Field(8, ge=3, description="steps of a series before the first row is told")
    significant: float = Field(
        3.0, gt=0, description="a slope of as many of its standard errors is a trend up or down; below, it is flat"
    )
    clip: float = Field(
        2.5, gt=1, description="standard deviations by which one step counts at most, however far off it is"
    )
    change_slack: float = Field(0.5, gt=0, description="CUSUM's k: standard deviations that a step may be off")
    change_threshold: float = Field(
        10.0, gt=0, description="CUSUM's h: the sum of standard deviations beyond the slack that is a change"
    )
    changed_steps: int = Field(30, ge=1, description="steps for which the regime is called changed after a change")


@dataclass(frozen=True, slots=True, eq=False)
class TrendRows:
    """Trends at the ends of steps, in order of slot and time, all [n]; none of a series' first steps.

    `level` is in the series' unit and `slope_per_s` in that per second, with its standard error `slope_se`;
    `volatility` is the standard deviation of what a step brings beyond the trend; `regime` int8 indexes REGIMES.
    """

    slot: Slots
    at_ms: Times
    level: Floats
    slope_per_s: Floats
    slope_se: Floats
    volatility: Floats
    regime: NDArray[np.int8]


_ONE: Final = rounds.Field(1.0)
_ZERO: Final = rounds.Field(0.0)
_FIELDS: Final = {
    # The covariance of level and slope is `p_level`, `p_both` and `p_slope` times `variance`, that of a step.
    "count": rounds.Field(0, np.int32),
    "at_ms": rounds.Field(0, np.int64),
    "cadence_s": _ZERO,
    "value": _ZERO,
    "level": _ZERO,
    "slope": _ZERO,
    "p_level": _ONE,
    "p_both": _ZERO,
    "p_slope": _ZERO,
    "variance": _ZERO,
    "typical": _ZERO,  # change from one step to the next, where there is one
    "last": _ZERO,  # innovation, in standard deviations
    "correlated": _ZERO,
    "above": _ZERO,
    "below": _ZERO,
    "changed": rounds.Field(0, np.int32),  # steps for which it is still called so
}


class Trends:
    """Level, slope and regime of every series, a step at a time.

    In place of the noise of level and slope, which nobody sets for a hundred thousand series, their covariance grows by
    1 / `discount` with each step: the trend is that of the last `memory_steps`, whatever the unit and the scale.
    """

    FORMAT: ClassVar[int] = 1

    def __init__(
        self, settings: TrendConfig, step_ms: int, arrays: Mapping[str, NDArray[np.generic]] | None = None
    ) -> None:
        self._settings = settings
        self._step_ms = step_ms
        self._state = SlotState(_FIELDS, arrays)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state."""
        return self._state.arrays()

    def grow(self, slots: int) -> None:
        """Room for new series."""
        self._state.grow(slots)

    def advance(self, steps: Steps) -> TrendRows:
        """The trend at the end of each of these steps."""
        n = len(steps.slot)
        told, regime, is_told = np.zeros((4, n)), np.zeros(n, np.int8), np.zeros(n, bool)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            for places in rounds.rounds(steps.slot):
                slot, at_ms = steps.slot[places], steps.at_ms[places]
                value = np.clip(steps.value[places], -_LARGEST, _LARGEST)
                now = self._stepped(slot, at_ms, value)
                self._state.put(slot, **now)
                told[:, places], regime[places] = self._told(now)
                is_told[places] = now["count"] >= self._settings.warmup_steps
        ends_ms = steps.at_ms[is_told] + self._step_ms
        level, slope, error, volatility = told[:, is_told]
        return TrendRows(steps.slot[is_told], ends_ms, level, slope, error, volatility, regime[is_told])

    def _stepped(self, slot: Slots, at_ms: Times, value: Floats) -> _Columns:
        """The state of these series after their next step, all [n]."""
        was = {name: self._state.row(name, slot) for name in _FIELDS}
        was = self._begun(was, at_ms, value)
        elapsed_s = (at_ms - was["at_ms"]) / 1000
        now = {
            "count": was["count"] + 1,
            "at_ms": at_ms,
            "value": value,
            "cadence_s": follow_quantile(was["cadence_s"], elapsed_s, 0.5, _CADENCE_PACE),
            "typical": _typical(was, value),
        }
        now |= self._corrected(was, now, elapsed_s)
        return self._restarted(now)

    def _begun(self, was: _Columns, at_ms: Times, value: Floats) -> _Columns:
        """As `was`, but a series' first step follows one like it, and before its second any slope is possible."""
        is_new, is_second = was["count"] == 0, was["count"] == 1
        elapsed_s = (at_ms - was["at_ms"]) / 1000
        return was | {
            "at_ms": np.where(is_new, at_ms, was["at_ms"]),
            "value": np.where(is_new, value, was["value"]),
            "level": np.where(is_new, value, was["level"]),
            "p_slope": np.where(is_second, (_UNKNOWN_SLOPE / elapsed_s) ** 2, was["p_slope"]),
        }

    def _corrected(self, was: _Columns, now: _Columns, elapsed_s: Floats) -> _Columns:
        """Kalman's step: the covariance grows with time, the innovation corrects level and slope."""
        settings, count = self._settings, was["count"]
        grown = self._grown(was, now["cadence_s"], elapsed_s)
        factor = 1 + grown["p_level"]
        expected = was["level"] + was["slope"] * elapsed_s
        innovation = np.where(count > 0, now["value"] - expected, 0.0)
        scale = np.sqrt(np.maximum(was["variance"], (_FLOOR * now["typical"]) ** 2) * factor)
        bound = np.where(count >= settings.warmup_steps, settings.clip * scale, np.inf)
        used = np.clip(innovation, -bound, bound)
        gain_level, gain_slope = grown["p_level"] / factor, grown["p_both"] / factor
        share = 1 / np.clip(count - 1, 1, settings.memory_steps)
        variance = np.where(count > 1, was["variance"] + share * (used**2 / factor - was["variance"]), 0.0)
        off = _over(used, scale)
        # Cut off as well: a change is not to be explained by what it does to the correlation.
        both = np.clip(off * was["last"], -settings.clip, settings.clip)
        correlated = was["correlated"] + share * (both - was["correlated"])
        return {
            "level": expected + gain_level * used,
            "slope": was["slope"] + gain_slope * used,
            "p_level": gain_level,
            "p_both": gain_slope,
            "p_slope": grown["p_slope"] - gain_slope * grown["p_both"],
            "variance": variance,
            "last": off,
            "correlated": np.where(count > 1, correlated, 0.0),
            **self._summed(was, off),
        }

    def _grown(self, was: _Columns, cadence_s: Floats, elapsed_s: Floats) -> _Columns:
        """The covariance of what is expected: it spreads as the slope is unknown, and by what is forgotten."""
        memory = self._settings.memory_steps
        growth = np.exp(np.clip(_over(elapsed_s, cadence_s), 0, memory) / memory)
        p_both = was["p_both"] + elapsed_s * was["p_slope"]
        return {
            "p_level": growth * (was["p_level"] + elapsed_s * (was["p_both"] + p_both)),
            "p_both": growth * p_both,
            "p_slope": growth * was["p_slope"],
        }

    def _summed(self, was: _Columns, off: Floats) -> _Columns:
        """Page's sums of how far steps were off, less what correlation among them explains."""
        settings = self._settings
        off = np.where(was["count"] >= settings.memory_steps / 2, off / np.sqrt(_inflation(was["correlated"])), 0.0)
        above = np.maximum(0.0, was["above"] + off - settings.change_slack)
        below = np.maximum(0.0, was["below"] - off - settings.change_slack)
        has_changed = np.maximum(above, below) > settings.change_threshold
        left = np.where(has_changed, settings.changed_steps, np.maximum(was["changed"] - 1, 0))
        return {"above": above, "below": below, "changed": left.astype(np.int32)}

    def _restarted(self, now: _Columns) -> _Columns:
        """After a change the level is where the series is, and where it goes is to be learnt anew."""
        has_changed = np.maximum(now["above"], now["below"]) > self._settings.change_threshold
        if not has_changed.any():
            return now
        begin: dict[str, Floats | float] = {
            "level": now["value"],
            "slope": 0.0,
            "p_level": 1.0,
            "p_both": 0.0,
            "p_slope": 1 / now["cadence_s"] ** 2,
            "last": 0.0,
            "above": 0.0,
            "below": 0.0,
        }
        return now | {name: np.where(has_changed, column, now[name]) for name, column in begin.items()}

    def _told(self, now: _Columns) -> tuple[Floats, NDArray[np.int8]]:
        """Level, slope, its standard error and volatility [4, n], and the regime [n]."""
        volatility = np.sqrt(now["variance"])
        error = volatility * np.sqrt(now["p_slope"] * _inflation(now["correlated"]))
        least = ROUNDING * np.abs(now["level"]) / now["cadence_s"]
        is_trend = np.abs(now["slope"]) > np.maximum(self._settings.significant * error, least)
        regime = np.where(is_trend, np.where(now["slope"] > 0, _UP, _DOWN), _FLAT)
        regime = np.where(now["changed"] > 0, _CHANGED, regime).astype(np.int8)
        return np.stack([now["level"], now["slope"], error, volatility]), regime


def _typical(was: _Columns, value: Floats) -> Floats:
    """The median change from one step to the next, of those that changed: the least that a step can be off."""
    change = np.abs(value - was["value"])
    has_changed = change > ROUNDING * np.abs(value)
    return np.where(has_changed, follow_quantile(was["typical"], change, 0.5, _TYPICAL_PACE), was["typical"])


def _inflation(correlated: Floats) -> Floats:
    """By how much the variance of a mean grows when steps resemble the last ones: (1 + r) / (1 - r), of an AR(1)."""
    r = np.clip(correlated, 0.0, _MOST_CORRELATED)
    return np.asarray((1 + r) / (1 - r), np.float64)


def _over(value: Floats, scale: Floats) -> Floats:
    """Their ratio; 0 where nothing is to be compared with."""
    return np.where(scale > 0, value / scale, 0.0)
