"""From readings by step to what a model sees, and from what it gives to values: the manifest's rules, in columns.

For training and for the cloud. The agent does the same without numpy in its own process (`edge/models/ring.py`) and
never imports this.

Where the manifest's rules leave it open: with steps `present`, a window's time means the last step that ends at or
before it, and a window needs all its steps: those before the first one known, or before a pause, are not missing but
unknown, so there is no result. Horizons count steps that are present, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from contract.grid import Strip, expressed, grid_at, line_of, spans_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from contract.grid import Grid
    from contract.manifest import Expression, ModelInput, Target, View, Window

    Floats: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]
    Mask: TypeAlias = NDArray[np.bool_]

# What is no float32 is no number to a model, here as on the device.
_GREATEST: Final = float(np.finfo(np.float32).max)
# So many numbers at once: a few MB, whatever the number of windows.
_CELLS_AT_ONCE: Final = 1 << 19
# 0.1 of 10 is 1 - 0.9, which is more than 0.1.
_HAIR: Final = 1e-9
_WITH_QUANTILES: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """One value for each step and input.

    `at_ms` int64 [steps]: the steps' begins, UTC ms, rising; steps may be left out. `values` float64 [steps, inputs],
    NaN where there is no good reading; `is_spoilt` bool [steps, inputs]: no good reading, but a bad one.

    `series` int64 [steps], rising from 0: which one each step is of, where there are several; `at_ms` rises in each.
    """

    at_ms: Times
    values: Floats
    is_spoilt: Mask
    series: Times | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """What a model sees at some times.

    `end_ms` int64 [windows]; `features` float64 [windows, length, features], not scaled; `last` float64 [windows,
    inputs], the inputs at the windows' last step; `is_whole` bool [windows]: whether there may be a result. The rest
    of one that is not whole is undefined.
    """

    end_ms: Times
    features: Floats
    last: Floats
    is_whole: Mask


def resampled(
    inputs: Sequence[ModelInput],
    window: Window,
    sampled_at_ms: Sequence[Times],
    values: Sequence[Floats],
    series: Sequence[Times] | None = None,
) -> Steps:
    """Readings of each input, in any order, brought to steps; a value that is NaN is a bad reading.

    Of two that were sampled at the same time the one that stands later is the last. `series`: which one each reading
    is of, where there are several.
    """
    at_ms = [np.asarray(each, np.int64) for each in sampled_at_ms]
    of = [np.zeros(len(each), np.int64) for each in at_ms] if series is None else series
    all_ms = np.concatenate(at_ms)
    # From step to step, so that a step of the line is a step.
    bounds_ms = np.append(
        all_ms // window.step_ms * window.step_ms, (all_ms // window.step_ms + 1) * window.step_ms - 1
    )
    strip = Strip.of(bounds_ms, np.concatenate(of))
    columns = [
        _by_step(each.resample, strip.place(one, when_ms), np.asarray(value, np.float64), window.step_ms)
        for each, one, when_ms, value in zip(inputs, of, at_ms, values, strict=True)
    ]
    numbers = np.unique(np.concatenate([known for known, _ in columns]))
    brought = np.full((len(numbers), len(columns)), np.nan)
    is_spoilt = np.zeros(brought.shape, bool)
    for place, (known, value) in enumerate(columns):
        rows = np.searchsorted(numbers, known)
        brought[rows, place] = value
        is_spoilt[rows, place] = np.isnan(value)
    places = numbers * window.step_ms
    return Steps(strip.number(places), brought, is_spoilt, None if series is None else places // strip.length)


def windows_at(view: View, steps: Steps, end_ms: Times, series: Times | None = None) -> Windows:
    """The windows that end at these times (UTC ms, whole steps).

    `series`: which one each window is of, where there are several.
    """
    count = len(end_ms)
    before = view.window.length + view.reach + max(view.hold_steps)
    made = Windows(
        end_ms=np.asarray(end_ms, np.int64),
        features=np.empty((count, view.window.length, len(view.features))),
        last=np.empty((count, len(view.inputs))),
        is_whole=np.empty(count, bool),
    )
    line, ends = line_of(view.window, steps, _given(series, count), made.end_ms, apart=before)
    for part in _parts(ends, before * max(len(view.inputs), len(view.features))):
        places, found = spans_of(ends[part], before - 1, 0)
        _fill(made, part, view, grid_at(view, line, places), found - (view.window.length + view.reach - 1))
    return made


def actual(
    view: View,
    targets: Sequence[Target],
    horizons: Sequence[int],
    steps: Steps,
    end_ms: Times,
    series: Times | None = None,
) -> Floats:
    """What came: float64 [windows, targets, horizons] in the targets' units; NaN where it is not known."""
    before, after = max(view.hold_steps) + 1, max(horizons)
    came = np.empty((len(end_ms), len(targets), len(horizons)))
    given = _given(series, len(end_ms))
    line, ends = line_of(view.window, steps, given, np.asarray(end_ms, np.int64), apart=before + after + 1)
    for part in _parts(ends, (before + after) * len(view.inputs)):
        places, found = spans_of(ends[part], before, after)
        grid = grid_at(view, line, places)
        known = np.where(grid.is_present, grid.values, np.nan)
        for place, target in enumerate(targets):
            came[part, place] = _outcome(target, _expression(view, target, known, grid.at_ms), found, horizons)
    return came


def relative(view: View, targets: Sequence[Target], values: Floats, last: Floats) -> Floats:
    """Values [windows, targets, ...] as the model tells them, by the inputs' last values [windows, inputs]."""
    told = np.array(values, np.float64)
    for place, base, is_ratio in _bases(view, targets, told, last):
        with np.errstate(all="ignore"):
            told[:, place] = np.log(told[:, place]) - np.log(base) if is_ratio else told[:, place] - base
    return told


def absolute(view: View, targets: Sequence[Target], told: Floats, last: Floats) -> Floats:
    """The inverse of `relative`; with quantiles in the last place they come in rising order."""
    values = np.array(told, np.float64)
    for place, base, is_ratio in _bases(view, targets, values, last):
        with np.errstate(all="ignore"):
            # Nothing has a ratio to what is not positive.
            values[:, place] = (
                np.exp(values[:, place]) * np.where(base > 0, base, np.nan) if is_ratio else values[:, place] + base
            )
    if values.ndim == _WITH_QUANTILES:
        values.sort(axis=-1)
    return values


def _by_step(resample: str, places: Times, values: Floats, step_ms: int) -> tuple[Times, Floats]:
    """The numbers of the steps with any reading, and the value of each; NaN where none was good."""
    order = np.argsort(places, kind="stable")
    numbers, values = places[order] // step_ms, values[order]
    is_good = np.abs(values) <= _GREATEST
    known, good = numbers[_firsts(numbers)], numbers[is_good]
    first, values = _firsts(good), values[is_good]
    brought = np.full(len(known), np.nan)
    brought[np.searchsorted(known, good[first])] = _reduced(resample, values, first)
    return known, brought


def _firsts(numbers: Times) -> NDArray[np.int64]:
    """Where a number stands first; equal ones stand side by side."""
    return np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]][: len(numbers)])


def _reduced(resample: str, values: Floats, first: NDArray[np.int64]) -> Floats:
    after = np.r_[first[1:], len(values)][: len(first)]
    match resample:
        case "mean":
            return np.asarray(np.add.reduceat(values, first) / (after - first), np.float64)
        case "min":
            return np.asarray(np.minimum.reduceat(values, first), np.float64)
        case "max":
            return np.asarray(np.maximum.reduceat(values, first), np.float64)
        case _:
            return np.asarray(values[after - 1], np.float64)


def _given(series: Times | None, count: int) -> Times:
    return np.zeros(count, np.int64) if series is None else np.asarray(series, np.int64)


def _parts(ends: Times, cells_each: int) -> Iterator[NDArray[np.int64]]:
    """The windows in order of their ends, some at once: those that lie side by side share their steps."""
    order = np.argsort(ends, kind="stable")
    at_once = max(1, _CELLS_AT_ONCE // cells_each)
    for first in range(0, len(order), at_once):
        yield order[first : first + at_once]


def _fill(made: Windows, part: NDArray[np.int64], view: View, grid: Grid, first: NDArray[np.int64]) -> None:
    """Windows `part`, whose steps stand in the grid from `first` on."""
    size = view.window.length + view.reach
    missing = _sums(~grid.is_present)
    missing = missing[first + size] - missing[first]  # [windows, inputs]
    is_whole = (missing < size).all(axis=1) & (missing.mean(axis=1) / size <= view.window.max_bad_share + _HAIR)
    if view.window.steps == "present":
        is_whole &= grid.is_row[first]
    features = _features(view, grid.values, grid.at_ms)  # [places, features]
    found = _windows(features, first + view.reach, view.window.length)
    is_finite = _sums(~np.isfinite(features).all(axis=1))
    is_finite = is_finite[first + size] == is_finite[first + view.reach]
    late = np.flatnonzero(is_whole & ~grid.is_present[first].all(axis=1))
    if len(late):
        found[late] = _begun_late(view, grid, first[late])
        is_finite[late] = np.isfinite(found[late]).all(axis=(1, 2))
    made.features[part] = found
    made.last[part] = grid.values[first + size - 1]
    made.is_whole[part] = is_whole & is_finite


def _windows(features: Floats, first: NDArray[np.int64], length: int) -> Floats:
    """[windows, length, features] of [places, features]: a window's numbers lie side by side, and are copied so."""
    width = features.shape[1]
    flat = np.lib.stride_tricks.sliding_window_view(features.reshape(-1), length * width)
    return np.asarray(flat[first * width].reshape(-1, length, width), np.float64)


def _begun_late(view: View, grid: Grid, first: NDArray[np.int64]) -> Floats:
    """Features of windows in which an input is missing at first: it has the value that it begins with."""
    index = np.arange(len(grid.at_ms))[:, None]
    next_present = np.minimum.accumulate(np.where(grid.is_present, index, len(index))[::-1], axis=0)[::-1]
    steps = first[:, None] + np.arange(view.window.length + view.reach)  # [windows, steps]
    source = np.maximum(steps[:, :, None], next_present[first][:, None])  # [windows, steps, inputs]
    values = np.take_along_axis(grid.values, source.reshape(-1, source.shape[2]), axis=0).reshape(source.shape)
    return _features(view, values, grid.at_ms[steps])[:, view.reach :]


def _features(view: View, values: Floats, at_ms: Times) -> Floats:
    return np.stack([_expression(view, each, values, at_ms) for each in view.features], axis=-1)


def _sums(mask: Mask) -> NDArray[np.int64]:
    """How many are true before each place, and in all."""
    return np.concatenate([np.zeros((1, *mask.shape[1:]), np.int64), np.cumsum(mask, axis=0)])


def _expression(view: View, what: Expression, values: Floats, at_ms: Times) -> Floats:
    names = [each.name for each in view.inputs]
    return expressed(what.transform, [names.index(name) for name in what.of], values, at_ms)


def _outcome(target: Target, steps: Floats, last: NDArray[np.int64], horizons: Sequence[int]) -> Floats:
    """A target's outcome [windows, horizons], where its expression is `steps` and the windows' last ones are `last`."""
    steps = np.where(np.isfinite(steps), steps, np.nan)
    after = last[:, None] + np.asarray(horizons)  # [windows, horizons]
    if target.over == "at":
        return np.asarray(steps[after], np.float64)
    # Sums of pieces, not differences of running sums: these would lose small numbers to great ones before them.
    pieces = np.stack(np.broadcast_arrays(last[:, None] + 1, after + 1), axis=-1)
    sums = np.add.reduceat(np.append(np.square(steps), 0.0), pieces.reshape(-1))[::2]
    return np.asarray(np.sqrt(sums.reshape(after.shape) / np.asarray(horizons)), np.float64)


def _bases(view: View, targets: Sequence[Target], values: Floats, last: Floats) -> Iterator[tuple[int, Floats, bool]]:
    """For each target that is told relative to an input: its place, that input in the shape of one, the kind."""
    names = [each.name for each in view.inputs]
    for place, target in enumerate(targets):
        if target.relative is not None:
            base = last[:, names.index(target.of[0])]
            yield place, base.reshape(-1, *[1] * (values.ndim - 2)), target.relative == "log_ratio"
