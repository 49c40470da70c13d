"""From readings by step to what a model sees, and from what it gives to values: the manifest's rules, in columns.

For training and for the cloud. The agent does the same without numpy in its own process (`edge/models/ring.py`) and
never imports this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np  # noqa: TC002 - used once the functions are written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from contract.manifest import ModelInput, Target, View, Window

    Floats: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]
    Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """One value for each step and input.

    `at_ms` int64 [steps]: the steps' begins, UTC ms, rising; steps may be left out. `values` float64 [steps, inputs],
    NaN where there is no good reading; `is_spoilt` bool [steps, inputs]: no good reading, but a bad one.
    """

    at_ms: Times
    values: Floats
    is_spoilt: Mask


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
    inputs: Sequence[ModelInput], window: Window, sampled_at_ms: Sequence[Times], values: Sequence[Floats]
) -> Steps:
    """Readings of each input, in any order, brought to steps; a value that is NaN is a bad reading."""
    raise NotImplementedError


def windows_at(view: View, steps: Steps, end_ms: Times) -> Windows:
    """The windows that end at these times (UTC ms, whole steps)."""
    raise NotImplementedError


def actual(view: View, targets: Sequence[Target], horizons: Sequence[int], steps: Steps, end_ms: Times) -> Floats:
    """What came: float64 [windows, targets, horizons] in the targets' units; NaN where it is not known."""
    raise NotImplementedError


def relative(view: View, targets: Sequence[Target], values: Floats, last: Floats) -> Floats:
    """Values [windows, targets, ...] as the model tells them, by the inputs' last values [windows, inputs]."""
    raise NotImplementedError


def absolute(view: View, targets: Sequence[Target], told: Floats, last: Floats) -> Floats:
    """The inverse of `relative`; with quantiles in the last place they come in rising order."""
    raise NotImplementedError
