"""How far a series is from what is usual for it, in robust standard deviations, with no set-up.

The score is a Hampel identifier: Davies and Gather, "The Identification of Multiple Outliers", Journal of the American
Statistical Association 88, 1993. In place of the window's own spread it goes by how far steps were from what had been
expected of them, so that a series that wanders or has spikes is judged by how it wanders and spikes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import numpy as np
from pydantic import Field

from contract.config import Config
from stream.analysis import rounds, spread
from stream.analysis.rounds import SlotState
from stream.analysis.scores import Scores
from stream.analysis.season import Season
from stream.analysis.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Steps, Times
    from stream.analysis.signals import Signal

    _Columns: TypeAlias = dict[str, NDArray[Any]]
    _Mask: TypeAlias = NDArray[np.bool_]

_LARGEST: Final = 1e100
_TYPICAL_PACE: Final = 0.05
# Steps of an excursion that still teach how far off is usual: of spikes, which are short, but not of faults.
_LEARNT_STEPS: Final = 3


class RobustConfig(Config):
    """The robust score of every numeric series; steps are the series' own, as often as it has any."""

    window: int = Field(60, ge=10, le=500, description="values in the window")
    every: int = Field(
        48, ge=1, le=1000, description="steps from one value to the next in a full window; fewer while it fills"
    )
    warmup: int = Field(20, ge=5, description="values in the window before anything is scored")
    unusual: float = Field(
        4.0, gt=1, description="robust standard deviations beyond which a step comes into the window cut off"
    )
    adopt_steps: int = Field(
        90,
        ge=1,
        description="unusual steps on end that are a new level: those after them come in whole",
    )
    counter_steps: int = Field(
        360, ge=10, description="steps without a fall after which a series that rises is a counter"
    )
    season_s: float = Field(86_400, gt=0, description="seconds after which the series is alike: the day, in UTC")
    season_parts: int = Field(24, ge=1, le=288, description="parts of the season that are learnt, each for itself")
    season_memory: float = Field(7, ge=2, description="seasons that are remembered")


@dataclass(frozen=True, slots=True, eq=False)
class _Usual:
    """What is expected of a round of series, all [n]: in the window, and in the end, with standard deviations."""

    center: Floats
    sigma: Floats
    expected: Floats
    expected_sigma: Floats
    is_ready: _Mask


class RobustAnomalies:
    """Scores each step by the median of the series' last ones, or by what is usual at this time of the day.

    It is the latter once it is known from days before and closer. A counter is scored by its rate. What a step is
    compared with never holds the step itself.
    """

    FORMAT: ClassVar[int] = 1

    def __init__(
        self, settings: RobustConfig, step_ms: int, arrays: Mapping[str, NDArray[np.generic]] | None = None
    ) -> None:
        self._settings = settings
        self._step_ms = step_ms
        self._signals = Signals(settings.counter_steps, arrays)
        self._season = Season(settings.season_s, settings.season_parts, settings.season_memory, arrays)
        self._window = SlotState(_FIELDS | {"ring": rounds.Field(np.nan, np.float64, settings.window)}, arrays)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state."""
        return self._signals.arrays() | self._season.arrays() | self._window.arrays()

    def grow(self, slots: int) -> None:
        """Room for new series."""
        for part in (self._signals, self._season, self._window):
            part.grow(slots)

    def advance(self, steps: Steps) -> Scores:
        """The score of each of these steps, but of none while a series is new."""
        expected, score = np.full((2, len(steps.slot)), np.nan)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            for places in rounds.rounds(steps.slot):
                reading = np.clip(steps.value[places], -_LARGEST, _LARGEST)
                expected[places], score[places] = self._stepped(steps.slot[places], steps.at_ms[places], reading)
        told = np.isfinite(score)
        ends_ms = steps.at_ms[told] + self._step_ms
        return Scores(steps.slot[told], ends_ms, steps.value[told], expected[told], score[told])

    def _stepped(self, slot: Slots, at_ms: Times, reading: Floats) -> tuple[Floats, Floats]:
        """What was expected as a reading, and the score, NaN where there is none."""
        signal = self._signals.step(slot, at_ms, reading)
        if signal.has_turned.any():
            self._window.forget(slot[signal.has_turned])
            self._season.forget(slot[signal.has_turned])
        was = {name: self._window.row(name, slot) for name in _FIELDS}
        now = _moved(was, signal.value)
        # Of a series that never moved nobody knows how much is much: its first move tells that.
        least = np.where(was["typical"] > 0, was["typical"], now["typical"])
        usual = self._usual(slot, at_ms, was, least, np.isfinite(signal.value))
        off = np.abs(signal.value - usual.expected)
        score = np.where(usual.expected_sigma > 0, off / usual.expected_sigma, 0.0)
        now |= self._learnt(slot, at_ms, was, signal, usual, spread.is_more(score, self._settings.unusual))
        self._window.put(slot, **now)
        self._put(slot, was, now, signal.value, usual)
        score = np.where(usual.is_ready, np.minimum(score, _LARGEST), np.nan)
        return signal.base + signal.factor * usual.expected, score

    def _usual(self, slot: Slots, at_ms: Times, was: _Columns, least: Floats, is_known: _Mask) -> _Usual:
        center = was["center"]
        sigma = np.maximum.reduce([was["mad"], spread.sigma_of(was), least])
        level, season_sigma = self._season.usual(slot, at_ms)
        season_sigma = np.maximum(season_sigma, least)
        is_closer = spread.is_more(sigma, season_sigma)
        return _Usual(
            center=center,
            sigma=sigma,
            expected=np.where(is_closer, level, center),
            expected_sigma=np.where(is_closer, season_sigma, sigma),
            is_ready=is_known & (was["filled"] >= self._settings.warmup),
        )

    def _learnt(
        self, slot: Slots, at_ms: Times, was: _Columns, signal: Signal, usual: _Usual, is_unusual: _Mask
    ) -> _Columns:
        """How far off steps are, by what they are told to be off, and for how long they have been unusual."""
        run = np.where(usual.is_ready, np.where(is_unusual, was["run"] + 1, 0), was["run"])
        learns = usual.is_ready & ((run <= _LEARNT_STEPS) | (run > self._settings.adopt_steps))
        r = np.flatnonzero(usual.is_ready)
        self._season.learn(slot[r], at_ms[r], signal.value[r], signal.elapsed_s[r], usual.sigma[r], learns[r])
        off = np.abs(signal.value - usual.center)
        return {"run": run, **spread.followed(was, off, was["mad"], learns)}

    def _put(self, slot: Slots, was: _Columns, now: _Columns, value: Floats, usual: _Usual) -> None:
        """Take the step into the window if it is its turn, cut off if it is unusual and no new level yet."""
        settings = self._settings
        is_new_level = now["run"] > settings.adopt_steps
        is_known = np.isfinite(value)
        is_turn = is_known & ((was["wait"] <= 0) | is_new_level)
        bound = settings.unusual * usual.expected_sigma
        is_cut = (now["run"] > 0) & ~is_new_level
        value = np.where(is_cut, np.clip(value, usual.expected - bound, usual.expected + bound), value)
        # A window that fills takes steps that lie closer together.
        apart = np.maximum(settings.every * np.minimum(was["filled"], settings.window) // settings.window, 1)
        self._window.put(slot, wait=np.where(is_turn, apart - 1, was["wait"] - is_known))
        turn = np.flatnonzero(is_turn)
        self._window["ring"][slot[turn], was["filled"][turn] % settings.window] = value[turn]
        filled = was["filled"][turn] + 1
        center, mad = _median_and_mad(self._window["ring"][slot[turn]], np.minimum(filled, settings.window))
        self._window.put(slot[turn], filled=filled, center=center, mad=mad)


def _moved(was: _Columns, value: Floats) -> _Columns:
    """The last value, and the median of how much values change when they do: a sensor's or a switch's step."""
    change = np.abs(value - was["value"])
    has_moved = change > spread.ROUNDING * np.abs(value)
    typical = spread.follow_quantile(was["typical"], change, 0.5, _TYPICAL_PACE)
    return {
        "value": np.where(np.isfinite(value), value, was["value"]),
        "typical": np.where(has_moved, typical, was["typical"]),
    }


def _median_and_mad(window: Floats, count: NDArray[np.int32]) -> tuple[Floats, Floats]:
    center = _medians(window, count)
    return center, _medians(np.abs(window - center[:, None]), count) * spread.MEDIAN_SIGMA


def _medians(rows: Floats, count: NDArray[np.int32]) -> Floats:
    """Of the numbers in each row [n, window], `count` of them; the others are NaN."""
    in_order = np.sort(rows, axis=1)
    row = np.arange(len(rows))
    return np.asarray((in_order[row, (count - 1) // 2] + in_order[row, count // 2]) / 2, np.float64)


_FIELDS: Final = {
    "value": rounds.Field(np.nan),
    "typical": rounds.Field(0.0),
    "filled": rounds.Field(0, np.int32),  # values that ever came into the window
    "wait": rounds.Field(0, np.int32),  # steps until the next one does
    "center": rounds.Field(0.0),
    "mad": rounds.Field(0.0),
    "run": rounds.Field(0, np.int32),  # unusual steps, one after another
    **spread.FIELDS,
}
