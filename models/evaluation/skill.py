"""Whether one forecast is better than another, and how sure that is.

What comes in is losses by time: windows overlap, so that errors of neighbouring times are alike, and what moves one
table moves others. So all tables' losses of a time are one number, and resampling takes whole blocks of times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]

RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
# With fewer blocks an interval says nothing.
LEAST_BLOCKS: Final = 4


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def summed(values: Floats, end_ms: Times) -> Floats:
    """The sum of all that is of the same time; `end_ms` rises."""
    first = np.flatnonzero(np.diff(end_ms, prepend=end_ms[:1] - 1))
    return np.asarray(np.add.reduceat(values, first), np.float64)


def block_length(end_ms: Times, horizon_ms: int, horizon: int, stride: int) -> int:
    """How many times a block has: those within the longest horizon, whose outcomes overlap, and at least the cube root.

    Of what is alike beyond overlap the cube root of the number keeps the bias small (Kuensch 1989).
    """
    times = np.unique(end_ms)
    within = int((np.searchsorted(times, times + horizon_ms, side="right") - np.arange(len(times))).max())
    return min(len(times), max(within, math.ceil(horizon / stride), math.ceil(len(times) ** (1 / 3))))


def ratio_interval(ours: Floats, theirs: Floats, block: int, seed: int) -> Interval:
    """1 - sum(ours) / sum(theirs) by time, its interval by a circular moving-block bootstrap (Politis, Romano 1992).

    With few blocks a percentile interval is too narrow: it is widened as Hesterberg 2015 does.
    """
    value = skill(float(ours.sum()), float(theirs.sum()))
    count = math.ceil(len(ours) / block)
    if count < LEAST_BLOCKS:
        return Interval(value, -math.inf, math.inf) if math.isfinite(value) else Interval(math.nan, math.nan, math.nan)
    starts = np.random.default_rng(seed).integers(len(ours), size=(RESAMPLES, count))
    sums = [_block_sums(each, block)[starts].sum(axis=1) for each in (ours, theirs)]
    with np.errstate(all="ignore"):
        resampled = 1 - sums[0] / sums[1]
    tail = float(stats.norm.cdf(math.sqrt(count / (count - 1)) * stats.t.ppf((1 - CONFIDENCE) / 2, count - 1)))
    low, high = np.quantile(resampled[np.isfinite(resampled)], (tail, 1 - tail)) if value == value else (value, value)
    return Interval(value, float(low), float(high))


def skill(ours: float, theirs: float) -> float:
    """1 - ours / theirs; nothing to be better than is no skill."""
    return 1 - ours / theirs if theirs > 0 else (0.0 if ours == theirs else math.nan)


def diebold_mariano(difference: Floats, lags: int) -> float:
    """Two-sided p that the expected loss is the same (Diebold and Mariano 1995), by differences of losses over time.

    The variance is Newey and West's with `lags` (a horizon of h times leaves h - 1), the correction for few times that
    of Harvey, Leybourne and Newbold 1997. Equal forecasts have p = 1.
    """
    count = len(difference)
    if count < 2 or not np.any(difference):
        return 1.0
    lags = min(lags, count - 1)
    centred = difference - difference.mean()
    variance = float(centred @ centred) / count
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / count
    if variance <= 0:
        return 0.0
    horizon = lags + 1
    corrected = max(0.0, (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count)
    statistic = math.sqrt(corrected) * float(difference.mean()) / math.sqrt(variance / count)
    return float(2 * stats.t.sf(abs(statistic), count - 1))


def _block_sums(values: Floats, block: int) -> Floats:
    """Of the block that begins at each place, around the end."""
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[: block - 1]]))])
    return sums[block:] - sums[:-block]
