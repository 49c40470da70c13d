"""Above which score a window is an anomaly: so that normal ones seldom are, and by how many that can be said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from scipy import stats

from models.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores: TypeAlias = NDArray[np.float32]

_TAIL: Final = 0.025
_ROUNDING: Final = 1e-9
# So many times more normal windows are above `clear` than above the threshold: an alarm does not flicker.
_CLEAR_FACTOR: Final = 10
# A threshold is above 0.
_LEAST: Final = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Threshold:
    """`level` is the score above which there is an alarm, `clear` that below which it is over.

    `rate` is the stated share of normal windows above the level, `low` and `high` the 95 % interval of the true one,
    which so many independent windows leave.
    """

    level: float
    clear: float
    rate: float
    low: float
    high: float
    windows: int
    independent: float


def threshold_of(scores: Scores, independent: float, rate: float) -> Threshold:
    """From scores of normal windows that nothing was learnt from, [n], worth so many independent ones.

    The level is the k-th highest of n with k / (n + 1) at most the rate: a new one is above it with no more than that
    probability, whatever the scores' distribution (an order statistic; Wilks 1941). Neighbouring windows share most
    steps, so that the interval, a beta distribution's, is of the independent ones. Raises TrainingError where not even
    one of those is expected above: such a rate cannot be stated.
    """
    if independent * rate < 1 - _ROUNDING:
        raise TrainingError(
            f"{independent:.0f} independent windows cannot show a false-alarm rate of {rate:g}: wanted are "
            f"{math.ceil(1 / rate)}, or a rate of {least_rate(independent):g}"
        )
    falling = np.sort(scores)[::-1]
    above = min(max(math.floor(rate * (len(scores) + 1)), 1), len(scores))
    clear = falling[min(_CLEAR_FACTOR * above, len(scores)) - 1]
    expected = rate * independent
    low, high = stats.beta.ppf((_TAIL, 1 - _TAIL), expected, independent + 1 - expected)
    level, clear = (max(float(each), _LEAST) for each in (falling[above - 1], clear))
    return Threshold(
        level=level,
        clear=clear,
        rate=rate,
        low=float(low),
        high=float(high),
        windows=len(scores),
        independent=independent,
    )


def least_rate(independent: float) -> float:
    """The smallest rate that so many windows can show, rounded up to two digits."""
    exact = 1 / independent
    digit = 10.0 ** (math.floor(math.log10(exact)) - 1)
    return math.ceil(exact / digit - _ROUNDING) * digit
