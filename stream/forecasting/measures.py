"""How far forecasts were from what came. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from contract.windows import actual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from contract.manifest import Target, View
    from contract.windows import Steps

    Floats: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]

_MEDIAN: Final = 0.5
# p10 to p90 is what is_covered is about.
_LOW: Final = 0.1
_HIGH: Final = 0.9


class Outcome(NamedTuple):
    """What came, and what two forecasts that need no model said: float64 [windows], NaN where it is not known."""

    actual: Floats
    naive: Floats
    seasonal: Floats


def outcome(  # noqa: PLR0913, PLR0917 - what `contract.windows.actual` takes, and the season
    view: View, target: Target, horizon: int, steps: Steps, end_ms: Times, series: Times, season: int
) -> Outcome:
    """Of a target so many steps after windows that end at `end_ms` [windows], of `series` [windows].

    The naive forecast is that the outcome of this horizon that is known last comes again, of a change that there is
    none; the seasonal one that it comes as it did whole seasons of so many steps before, the fewest that are known: as
    `models` compares with them when a model is judged.
    """

    def came(at_ms: Times) -> Floats:
        return actual(view, [target], [horizon], steps, at_ms, series)[:, 0, 0]

    step_ms = view.window.step_ms
    is_change = target.over == "at" and "change" in target.transform
    naive = np.zeros(len(end_ms)) if is_change else came(end_ms - horizon * step_ms)
    return Outcome(came(end_ms), naive, came(end_ms - seasons(horizon, season) * step_ms))


def seasons(horizon: int, season: int) -> int:
    """How many steps ago it is known how the horizon ended: whole seasons."""
    return math.ceil(horizon / season) * season


def median_of(quantiles: Floats, levels: Sequence[float]) -> Floats:
    """The middle [windows] of quantiles [windows, levels]: the median, or what lies between the two beside it."""
    return np.array([np.interp(_MEDIAN, levels, each) for each in quantiles], np.float64)


def pinball(came: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """Pinball loss (Koenker and Bassett 1978), the mean over the levels: [windows]."""
    error = came[:, None] - quantiles
    shares = np.asarray(levels)
    return np.asarray(np.maximum(shares * error, (shares - 1) * error).mean(axis=1), np.float64)


def is_covered(came: Floats, quantiles: Floats, levels: Sequence[float]) -> NDArray[np.bool_] | None:
    """Whether it came between p10 and p90, None where the model has not both."""
    near = [place for each in (_LOW, _HIGH) for place, level in enumerate(levels) if math.isclose(level, each)]
    if len(near) != 2:  # noqa: PLR2004 - a low one and a high one
        return None
    low, high = (quantiles[:, place] for place in near)
    return np.asarray((came >= low) & (came <= high), np.bool_)
