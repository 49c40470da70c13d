"""How far quantiles were from what came: pure functions of arrays.

`y` is [..., horizons], `told` [..., horizons, quantiles] in rising order, both in the same unit; NaN stays NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

_MEDIAN: Final = 0.5


def pinball(y: ArrayLike, told: ArrayLike, quantiles: Sequence[float]) -> Floats:
    """Of each quantile [..., quantiles]: least in expectation for the true one (Koenker and Bassett 1978).

    That of the median is half the absolute error; twice the mean over many quantiles is the CRPS.
    """
    error = np.asarray(y, np.float64)[..., None] - np.asarray(told, np.float64)
    shares = np.asarray(quantiles)
    return np.maximum(shares * error, (shares - 1) * error)


def median_of(told: Floats, quantiles: Sequence[float]) -> Floats:
    """The middle [...]: the median, or what lies between the two quantiles beside it."""
    shares = np.asarray(quantiles)
    after = int(np.clip(np.searchsorted(shares, _MEDIAN), 1, len(shares) - 1)) if len(shares) > 1 else 0
    if not after:
        return np.asarray(told[..., 0], np.float64)
    part = float(np.clip((_MEDIAN - shares[after - 1]) / (shares[after] - shares[after - 1]), 0, 1))
    return np.asarray((1 - part) * told[..., after - 1] + part * told[..., after], np.float64)


def absolute_error(y: Floats, told: Floats, quantiles: Sequence[float]) -> Floats:
    """Of the median."""
    return np.asarray(np.abs(y - median_of(told, quantiles)), np.float64)


def mase(y: Floats, told: Floats, quantiles: Sequence[float], scale: Floats) -> float:
    """Mean absolute scaled error (Hyndman and Koehler 2006): by the naive forecast's mean absolute error of before.

    `scale` is that of each window's table at the same horizon, in the shape of `y`.
    """
    scaled = absolute_error(y, told, quantiles) / np.where(scale > 0, scale, np.nan)
    return mean(scaled)


def rmse(y: Floats, told: Floats, quantiles: Sequence[float]) -> float:
    """Root mean square error of the median."""
    return float(np.sqrt(mean(np.square(y - median_of(told, quantiles)))))


def is_within(y: Floats, told: Floats) -> Floats:
    """1 where it came between the lowest and the highest quantile, else 0."""
    return np.where(np.isnan(told[..., 0]), np.nan, (y >= told[..., 0]) & (y <= told[..., -1]))


def width(told: Floats) -> Floats:
    """From the lowest quantile to the highest."""
    return told[..., -1] - told[..., 0]


def reliability(y: Floats, told: Floats) -> Floats:
    """Which share came at or below each quantile [quantiles]: a calibrated forecast has the quantiles themselves."""
    below = np.where(np.isnan(told), np.nan, y[..., None] <= told)
    return np.array([mean(below[..., place]) for place in range(told.shape[-1])])


def mean(values: Floats) -> float:
    """Of what is known; NaN of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def mean_over_first(values: Floats) -> Floats:
    """Of what is known along the first axis; NaN of nothing."""
    is_known = ~np.isnan(values)
    count = is_known.sum(axis=0)
    total = np.where(is_known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
