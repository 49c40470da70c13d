"""How far values usually are from what is expected of them, followed step by step with no unit and no window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stream.analysis.rounds import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats

# Of a value: what is smaller is how computers round.
ROUNDING: Final = 1e-9
TAIL: Final = 0.99
# Of normally distributed values: standard deviations in the median of what they are off.
MEDIAN_SIGMA: Final = 1.4826
# And in the 99th percentile of it.
TAIL_SIGMA: Final = 1 / 2.5758
_PACE: Final = 0.02
# A new estimate is not trusted: it goes faster for some hundreds of steps.
_NEW_PACE: Final = 8.0
FIELDS: Final = {"median": Field(0.0), "tail": Field(0.0), "learnt": Field(0, np.int32)}


def is_more(one: Floats, than: Floats | float) -> NDArray[np.bool_]:
    """Whether these positive values are larger, by more than how computers round, bool [n]."""
    return np.asarray(one > than * (1 + ROUNDING), np.bool_)


def follow_quantile(estimate: Floats, seen: Floats, level: float, pace: Floats | float) -> Floats:
    """A running quantile of positive values [n], one step on; an estimate of 0 takes what was seen.

    Multiplicative, so that it needs to know no unit, and an outlier counts as one value and not by its size: Yazidi
    and Hammer, "Multiplicative Update Methods for Incremental Quantile Estimation", IEEE Transactions on Cybernetics
    49(3), 2019. `pace` is how far it goes in one step at most, as a logarithm.

    Steps up and down lead back to where it was but for how computers round, and of a quantised series that is just
    what is seen: what differs by no more than that stands still, or rounding would say which way it goes.
    """
    is_above, is_below = is_more(seen, estimate), is_more(estimate, seen)
    sign = np.where(is_above, level, np.where(is_below, level - 1.0, 0.0))
    return np.asarray(np.where(estimate > 0, estimate * np.exp(pace * sign), seen), np.float64)


def sigma_of(was: Mapping[str, NDArray[Any]]) -> Floats:
    """The standard deviation that both quantiles in FIELDS stand for, the larger one: spikes make the tail large."""
    return np.asarray(np.maximum(was["median"] * MEDIAN_SIGMA, was["tail"] * TAIL_SIGMA), np.float64)


def followed(
    was: Mapping[str, NDArray[Any]], off: Floats, first_sigma: Floats, learns: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """FIELDS one step on, where `learns`; the first step begins them at `first_sigma`, or at what is seen."""
    learnt = was["learnt"]
    pace = np.maximum(_PACE, 1 / (learnt + _NEW_PACE))
    is_new = learnt == 0
    median = np.where(is_new, first_sigma / MEDIAN_SIGMA, was["median"])
    tail = np.where(is_new, first_sigma / TAIL_SIGMA, was["tail"])
    return {
        "median": np.where(learns, follow_quantile(median, off, 0.5, pace), was["median"]),
        "tail": np.where(learns, follow_quantile(tail, off, TAIL, pace), was["tail"]),
        "learnt": learnt + learns,
    }
