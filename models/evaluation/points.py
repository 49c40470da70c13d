"""Point forecasts of what is known step by step: pure, vectorised, and never by what comes after the step.

`known` is [steps, targets, horizons]: the outcome over the last so many steps, as `Track` has it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy.signal import lfilter

from models.evaluation.tracks import filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


def same_season(known: Floats, horizons: Sequence[int], season: int) -> Floats:
    """The outcome of the same horizon a season ago, or as many as it takes to be known."""
    points = np.full_like(known, np.nan)
    for place, horizon in enumerate(horizons):
        back = math.ceil(horizon / season) * season - horizon
        points[back:, :, place] = known[: len(known) - back, :, place]
    return points


def same_change(known: Floats, horizons: Sequence[int], season: int) -> Floats:
    """The last value, moved as far as it was a season ago over so many steps; of `known` the horizon 1 is looked at."""
    last = known[:, :, :1]
    points = same_season(np.repeat(last, len(horizons), axis=2), horizons, season) + last
    for place, horizon in enumerate(horizons):
        before = math.ceil(horizon / season) * season
        points[:before, :, place] = np.nan
        points[before:, :, place] -= last[: max(0, len(last) - before), :, 0]
    return points


def smoothed(values: Floats, decay: float) -> Floats:
    """Exponentially weighted average along the first axis, from the first known value on: RiskMetrics 1996."""
    values = filled(values)
    is_known = ~np.isnan(values)
    first = np.take_along_axis(values, is_known.argmax(axis=0)[None], axis=0)
    start: Any = np.where(np.isnan(first), 0.0, first)
    smooth, _ = lfilter([1 - decay], [1, -decay], np.where(is_known, values, start), axis=0, zi=decay * start)
    return np.where(is_known, smooth, np.nan)


def trailing_mean(values: Floats, count: int) -> Floats:
    """Of the last `count` steps [steps, ...]; NaN before there are so many."""
    sums = np.cumsum(np.where(np.isnan(values), 0.0, values), axis=0)
    missing = np.cumsum(np.isnan(values), axis=0)
    means = np.full_like(values, np.nan)
    if len(values) >= count:
        pad = [(1, 0), *[(0, 0)] * (values.ndim - 1)]
        sums, missing = np.pad(sums, pad), np.pad(missing, pad)
        total, lacking = sums[count:] - sums[:-count], missing[count:] - missing[:-count]
        means[count - 1 :] = np.where(lacking, np.nan, total / count)
    return means


def regressors(values: Floats, lags: Sequence[int]) -> Floats:
    """Of one target [steps]: 1 and the means over the last so many steps, [steps, 1 + lags] (Corsi 2009)."""
    return np.stack([np.ones(len(values)), *(trailing_mean(values, lag) for lag in lags)], axis=-1)


def coefficients(seen: Floats, came: Floats) -> Floats:
    """Least squares [columns, horizons] of `came` [steps, horizons] by `seen` [steps, columns], where known."""
    whole = np.isfinite(seen).all(axis=1) & np.isfinite(came).all(axis=1)
    if np.count_nonzero(whole) < 2 * seen.shape[1]:
        return np.full((seen.shape[1], came.shape[1]), np.nan)
    return np.asarray(np.linalg.lstsq(seen[whole], came[whole], rcond=None)[0], np.float64)
