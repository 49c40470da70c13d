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
# With fewer blocks anything may be: the interval is from -1, or less, to 1.
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


def overlapping(end_ms: Times, span_ms: int) -> int:
    """How many times lie within a forecast's span, so that their outcomes overlap, and at least 1."""
    times = np.unique(end_ms)
    return int((np.searchsorted(times, times + span_ms) - np.arange(len(times))).max())


def block_length(end_ms: Times, span_ms: int) -> int:
    """How many times a block has: those whose outcomes overlap, and at least the cube root of all.

    That keeps the bias small where more is alike than what overlaps (Kuensch 1989).
    """
    count = len(np.unique(end_ms))
    return int(min(count, max(overlapping(end_ms, span_ms), math.ceil(np.cbrt(count)))))


def ratio_interval(ours: Floats, theirs: Floats, block: int, seed: int) -> Interval:
    """1 - sum(ours) / sum(theirs) by time, its interval by a circular moving-block bootstrap (Politis, Romano 1992).

    With few blocks a percentile interval is too narrow: it is widened as Hesterberg 2015 does.
    """
    value = skill(float(ours.sum()), float(theirs.sum()))
    count = len(ours) // block
    if count < LEAST_BLOCKS:
        return Interval(value, min(value, -1.0), 1.0)
    starts = np.random.default_rng(seed).integers(len(ours), size=(RESAMPLES, count))
    sums = [_block_sums(each, block)[starts].sum(axis=1) for each in (ours, theirs)]
    with np.errstate(all="ignore"):
        resampled = 1 - sums[0] / sums[1]
    tail = float(stats.norm.cdf(math.sqrt(count / (count - 1)) * stats.t.ppf((1 - CONFIDENCE) / 2, count - 1)))
    resampled = resampled[np.isfinite(resampled)]
    if not len(resampled):
        return Interval(value, min(value, -1.0), 1.0)
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return Interval(value, float(low), float(high))


def skill(ours: float, theirs: float) -> float:
    """1 - ours / theirs; than what makes no error nothing is better."""
    return 1 - ours / theirs if theirs > 0 else float(-(ours > 0))


def diebold_mariano(difference: Floats, lags: int) -> float:
    """Two-sided p that the expected loss is the same (Diebold and Mariano 1995), by differences of losses over time.

    The variance is Newey and West's with `lags` (a horizon of h times leaves h - 1), the correction for few times that
    of Harvey, Leybourne and Newbold 1997. Equal forecasts have p = 1.
    """
    count = len(difference)
    if not np.any(difference):
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
    return np.asarray(sums[block:] - sums[:-block], np.float64)
