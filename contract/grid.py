"""Steps in places of their own, and what is known at those that some windows look at: the inside of `contract.windows`.

A *place* is a whole number; the steps of a window stand in places side by side. With steps `clock` it is the step's
number, with `present` that of its row; what must not be looked at together, such as two series, stands too far apart
for any window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from contract.manifest import Transform, View, Window
    from contract.windows import Steps

    Floats: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]
    Mask: TypeAlias = NDArray[np.bool_]

_DAY_MS: Final = 86_400_000
# The period of a turn, and how long before the epoch one began: 1970 did on a Thursday.
_TURNS: Final = {
    "day": (_DAY_MS, 0),
    "week": (7 * _DAY_MS, 3 * _DAY_MS),
    "year": (round(365.2425 * _DAY_MS), 0),
}


@dataclass(frozen=True, slots=True)
class Strip:
    """Whole numbers of several series on one line: each series has a stretch of `length`, which begins at `first`."""

    first: int
    length: int

    @classmethod
    def of(cls, numbers: Times, series: Times, margin: int = 0) -> Self:
        """With room for these numbers, and so much before and after them; raises OverflowError."""
        first, last = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
        made = cls(first - margin, last - first + 1 + 2 * margin)
        if (1 + int(series.max(initial=0))) * made.length > np.iinfo(np.int64).max:
            raise OverflowError(f"{int(series.max()) + 1} series over {made.length} steps are too many at once")
        return made

    def place(self, series: Times, numbers: Times) -> Times:
        """Where they stand."""
        return np.asarray(series * self.length + (numbers - self.first), np.int64)

    def number(self, places: Times) -> Times:
        """The inverse, without the series."""
        return np.asarray(places % self.length + self.first, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Rows in places: `places` int64 [rows] rising, `at_ms`, `values` [rows, inputs] and `is_spoilt` as in `Steps`.

    `apart` is how far those at least stand apart that must not be looked at together; with steps `clock`, `strip` has
    the steps' numbers.
    """

    places: Times
    at_ms: Times
    values: Floats
    is_spoilt: Mask
    apart: int
    strip: Strip


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """What is known at some places, `n` in all.

    `at_ms` int64 [n]: the step's begin; `is_row` bool [n]: there was a reading of any input; `values` float64 [n,
    inputs]: the last good ones so far, NaN before; `is_present` bool [n, inputs]: they stand for this step.
    """

    at_ms: Times
    is_row: Mask
    values: Floats
    is_present: Mask


def line_of(window: Window, steps: Steps, series: Times, end_ms: Times, apart: int) -> tuple[Line, Times]:
    """The steps in places, and the places of the last steps of windows that end at these times, of these series."""
    of = np.zeros(len(steps.at_ms), np.int64) if steps.series is None else steps.series
    if window.steps == "present":
        places, ends = _by_row(window, of, steps.at_ms, series, end_ms, apart)
        strip = Strip.of(np.zeros(0, np.int64), of)
    else:
        numbers = steps.at_ms // window.step_ms
        strip = Strip.of(numbers, np.append(of, series), 2 * apart + 1)
        places = strip.place(of, numbers)
        # One that ends long before or after all that is known sees nothing, wherever it ends.
        nearest = np.clip(end_ms // window.step_ms - 1, strip.first + apart, strip.first + strip.length - apart - 1)
        ends = strip.place(series, nearest)
    return Line(places, steps.at_ms, steps.values, steps.is_spoilt, apart, strip), ends


def _by_row(window: Window, of: Times, at_ms: Times, series: Times, end_ms: Times, apart: int) -> tuple[Times, Times]:
    """With steps `present`: each row a place, after a pause and in another series far away."""
    strip = Strip.of(at_ms, np.append(of, series), 1)
    line = strip.place(of, at_ms)
    pause_ms = np.inf if window.max_pause_s is None else window.max_pause_s * 1000
    new = (np.diff(of, prepend=of[:1]) > 0) | (np.diff(at_ms, prepend=at_ms[:1]) > pause_ms)
    places = np.arange(len(at_ms)) + apart * np.cumsum(new)
    begun_ms = np.clip(end_ms - window.step_ms, strip.first, strip.first + strip.length - 1)
    rows = np.searchsorted(line, strip.place(series, begun_ms), side="right") - 1
    nowhere = np.full(len(rows), -2 * apart)
    if not len(at_ms):
        return places, nowhere
    return places, np.where((rows >= 0) & (of[rows] == series), places[rows], nowhere)


def spans_of(ends: Times, before: int, after: int) -> tuple[Times, Times]:
    """The places from `before` before each end to `after` after it, each once; and which of them the ends are.

    `ends` must not fall.
    """
    new = np.minimum(np.diff(ends, prepend=ends[:1] - (before + after + 1)), before + after + 1)
    upto = np.cumsum(new)
    last_of_span = np.repeat(ends + after, new)
    left_in_span = np.repeat(upto, new) - np.arange(1, upto[-1] + 1)
    return last_of_span - left_in_span, upto - 1 - after


def grid_at(view: View, line: Line, places: Times) -> Grid:
    """What is known at these places, which rise."""
    is_row, rows = _rows_at(line, places)
    at_ms = line.strip.number(places) * view.window.step_ms
    at_ms[is_row] = line.at_ms[rows[is_row]]
    values, is_spoilt = _taken(line.values, is_row, rows, np.nan), _taken(line.is_spoilt, is_row, rows, fill=False)
    index = np.arange(len(places))[:, None]
    latest = np.maximum.accumulate(np.where(np.isfinite(values), index, -1), axis=0)
    spoilt = np.maximum.accumulate(np.where(is_spoilt, index, -1), axis=0)
    is_held = (at_ms[:, None] - at_ms[latest] <= np.asarray(view.hold_steps) * view.window.step_ms) & (
        places[:, None] - places[latest] < line.apart
    )
    is_present = (latest >= 0) & (spoilt <= latest) & is_held
    if view.window.steps == "present":
        is_present &= is_row[:, None]
    known = np.where(latest >= 0, np.take_along_axis(values, np.maximum(latest, 0), axis=0), np.nan)
    return Grid(at_ms, is_row, known, is_present)


def expressed(transform: Transform, of: Sequence[int], values: Floats, at_ms: Times) -> Floats:
    """An expression at each step, [..., steps], of the inputs `of` in `values` [..., steps, inputs].

    The first step has no change: NaN. What cannot be computed is not finite.
    """
    if not of:
        span, _, turn = transform.partition("_")
        period, before = _TURNS[span]
        angle = (at_ms + before) % period * (2 * np.pi / period)
        return np.asarray(np.sin(angle) if turn == "sin" else np.cos(angle), np.float64)
    with np.errstate(all="ignore"):
        columns = [values[..., each] for each in of]
        if "log" in transform:
            columns = [np.log(column) for column in columns]
        if transform == "log_ratio":
            return np.asarray(columns[0] - columns[1], np.float64)
        if "change" in transform:
            return np.diff(columns[0], axis=-1, prepend=np.nan)
    return np.asarray(columns[0], np.float64)


def _rows_at(line: Line, places: Times) -> tuple[Mask, Times]:
    if not len(line.places):
        return np.zeros(len(places), bool), np.zeros(len(places), np.int64)
    rows = np.minimum(np.searchsorted(line.places, places), len(line.places) - 1)
    return line.places[rows] == places, rows


def _taken(column: NDArray[Any], is_row: Mask, rows: Times, fill: float) -> NDArray[Any]:
    taken = np.full((len(rows), column.shape[1]), fill, column.dtype)
    taken[is_row] = column[rows[is_row]]
    return taken
