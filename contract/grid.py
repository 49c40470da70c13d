"""Steps in places of their own, and what is known at those that some windows look at: the inside of `contract.windows`.

A *place* is a whole number; the steps of a window stand in places side by side. With steps `clock` it is the step's
number, with `present` that of its row; what must not be looked at together stands too far apart for any window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from contract.manifest import Transform, View, Window

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


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Rows in places: `places` int64 [rows] rising, `at_ms`, `values` [rows, inputs] and `is_spoilt` as in `Steps`.

    `apart` is how far those at least stand apart that must not be looked at together.
    """

    places: Times
    at_ms: Times
    values: Floats
    is_spoilt: Mask
    apart: int


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


def places_of(window: Window, at_ms: Times, apart: int) -> Times:
    """The place of each step that is there."""
    if window.steps == "clock":
        return at_ms // window.step_ms
    rows = np.arange(len(at_ms))
    if window.max_pause_s is None:
        return rows
    pauses = np.diff(at_ms, prepend=at_ms[:1]) > window.max_pause_s * 1000
    return np.asarray(rows + apart * np.cumsum(pauses), np.int64)


def ends_of(window: Window, at_ms: Times, places: Times, end_ms: Times, apart: int) -> Times:
    """The place of the last step of each window."""
    if window.steps == "clock":
        return end_ms // window.step_ms - 1
    rows = np.searchsorted(at_ms, end_ms - window.step_ms, side="right") - 1
    nowhere = np.int64(-2 * apart)
    return np.where(rows >= 0, places[rows], nowhere) if len(places) else np.full(len(end_ms), nowhere)


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
    at_ms = np.where(is_row, line.at_ms[rows], places * view.window.step_ms) if len(line.at_ms) else places * 0
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
