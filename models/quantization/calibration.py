"""By which windows the range of each int8 tensor is set, and whether they stand for those that will come. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from models.errors import ConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

WINDOWS: Final = 300
# Of each feature's values; the rest is cut off, so that a few outliers do not take the levels from all.
_KEPT: Final = 0.9995
# In the windows with extreme outputs, scaled: at most so far, which leaves 8 levels for a standard deviation.
_FARTHEST: Final = 16.0

_LEVELS: Final = 256
# Of the values that a model was trained on, how many its int8 form may cut off, and how many levels their standard
# deviation is to have at least: 256 levels are 8 deviations of 32 levels, with heavier tails fewer.
_MOST_CUT: Final = 0.005
_LEAST_LEVELS: Final = 4.0


def evenly(count: int, of: int) -> NDArray[np.int64]:
    """At most `count` of so many places, evenly spread."""
    return np.unique(np.linspace(0, of - 1, min(count, of)).round().astype(np.int64))


def representative(windows: Floats, outputs: Floats) -> Floats:
    """Some of the scaled windows [n, L, F] that a forecast was trained on, and gave these outputs [n, numbers] for.

    They are evenly spread and without their outliers; with them come those of which an output is the least or the
    greatest. Without these int8 cuts off what is seldom told: seen on wind power, where it was then up to 249 kW away
    from float, and with them 15.
    """
    tail = (1 - _KEPT) / 2
    low, high = np.quantile(windows.reshape(-1, windows.shape[-1]), (tail, 1 - tail), axis=0)  # [F] each
    usual = np.clip(windows[evenly(WINDOWS, len(windows))], low, high)
    extreme = windows[np.union1d(outputs.argmin(axis=0), outputs.argmax(axis=0))]
    return np.asarray(np.concatenate([usual, np.clip(extreme, -_FARTHEST, _FARTHEST)]), np.float32)


def check_range(first_int8: tuple[float, int] | None, windows: Floats) -> None:
    """Raises ConversionError where an int8 form's range does not fit the scaled windows that were trained on."""
    if first_int8 is None:
        raise ConversionError("has no int8 tensor: it was not calibrated")
    scale, zero = first_int8
    low, high = (-_LEVELS // 2 - zero - 0.5) * scale, (_LEVELS // 2 - 1 - zero + 0.5) * scale
    cut = float(np.mean((windows < low) | (windows > high)))
    if cut > _MOST_CUT:
        raise ConversionError(
            f"its range, {low:.3g} to {high:.3g}, cuts off {cut:.1%} of the values trained on: the windows that it was "
            "calibrated by do not stand for them"
        )
    if (levels := float(windows.std()) / scale) < _LEAST_LEVELS:
        raise ConversionError(
            f"its range, {low:.3g} to {high:.3g}, leaves {levels:.1f} levels for a standard deviation of what it was "
            f"trained on, wanted are {_LEAST_LEVELS:g}: the windows that it was calibrated by have outliers"
        )
