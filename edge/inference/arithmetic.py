"""From readings by step to what the model sees, and from its output to a result. Pure; the rules are the manifest's.

The cloud and training have the same in `contract.windows`, for many windows at once and of the manifest itself; here
nothing may bring pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from edge.inference.settings import BAD, FORECAST, GOOD, RECONSTRUCTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge.inference.settings import FeatureSettings, ModelSettings, TargetSettings

    Floats: TypeAlias = NDArray[np.float64]
    Singles: TypeAlias = NDArray[np.float32]
    Times: TypeAlias = NDArray[np.int64]
    Bytes: TypeAlias = NDArray[np.uint8]
    Mask: TypeAlias = NDArray[np.bool_]

_DAY_MS: Final = 86_400_000
# Period and what of it has passed at the epoch, a Thursday; the year is the Gregorian calendar's mean.
_TURNS: Final = {"day": (_DAY_MS, 0), "week": (7 * _DAY_MS, 3 * _DAY_MS), "year": (31_556_952_000, 0)}


class NoWindowError(Exception):
    """There is no result for a window: too much of it is missing, or a feature has no value; the message says which."""


def window_of(values: Floats, states: Bytes, settings: ModelSettings) -> Floats:
    """The inputs, [reach + length, inputs], from values and states [inputs, rows]; raises NoWindowError."""
    steps = settings.reach + settings.length
    latest, is_present = _held(states, np.asarray(settings.hold_steps)[:, None])
    latest, is_present = latest[:, -steps:], is_present[:, -steps:]
    _check(is_present, settings)
    # What is missing is the value before it, or, at the beginning, the first.
    columns = np.arange(steps)
    source = np.maximum.accumulate(np.where(is_present, columns, -1), axis=1)
    source = np.where(source < 0, is_present.argmax(axis=1)[:, None], source)
    return np.take_along_axis(values, np.take_along_axis(latest, source, axis=1), axis=1).T


def features_of(window: Floats, end_ms: int, settings: ModelSettings) -> Floats:
    """What the model sees, [length, features], of a window that ends at `end_ms` (UTC); raises NoWindowError."""
    with np.errstate(all="ignore"):  # what comes of it is not finite
        columns = [_column(feature, window, end_ms, settings.step_ms) for feature in settings.features]
    features: Floats = np.array(columns).T[settings.reach :]
    if not np.isfinite(features).all():
        worst = settings.features[int(np.isfinite(features).mean(axis=0).argmin())]
        of = " and ".join(settings.inputs[index] for index in worst.of)
        raise NoWindowError(f"{worst.name}, the {worst.transform} of {of}, is not finite in the window")
    return features


def scaled(features: Floats, settings: ModelSettings) -> Singles:
    """What the model sees as it takes it, [1, length, features]."""
    mean = np.asarray([feature.mean for feature in settings.features])
    scale = np.asarray([feature.scale for feature in settings.features])
    # In float64: in float32 a pressure in Pa would lose its changes to its mean.
    model_input: Singles = ((features - mean) / scale).astype(np.float32)[None]
    return model_input


def result_of(output: Singles, last: Floats, model_input: Singles, settings: ModelSettings) -> Singles:
    """The numbers of a result: a forecast in units; or the score, and for a reconstruction each feature's share of it.

    `last` is the inputs at the window's last step. Raises NoWindowError where nothing can be told by them.
    """
    if settings.output == FORECAST:
        told = output.astype(np.float64).reshape(settings.out_shape)  # targets x horizons x quantiles
        values = [_absolute(each, target, last, settings) for each, target in zip(told, settings.targets, strict=True)]
        return np.sort(values, axis=-1).astype(np.float32).reshape(-1)
    if settings.output == RECONSTRUCTION:
        errors = np.square(output.astype(np.float64) - model_input).mean(axis=(0, 1))
        total = errors.sum()
        shares = errors / total if total > 0 else errors
        return np.asarray([errors.mean(), *shares], np.float32)
    return output.reshape(-1)


def _held(states: Bytes, hold_steps: NDArray[np.int_]) -> tuple[NDArray[np.int_], Mask]:
    """For each step where its value stands, and whether it has one: its own, or an earlier one that still holds."""
    columns = np.arange(states.shape[1])
    latest = np.maximum.accumulate(np.where(states == GOOD, columns, -1), axis=1)
    spoilt = np.maximum.accumulate(np.where(states == BAD, columns, -1), axis=1)
    is_present = (latest >= 0) & (columns - latest <= hold_steps) & (spoilt <= latest)
    return latest, is_present


def _check(is_present: Mask, settings: ModelSettings) -> None:
    for name, column in zip(settings.inputs, is_present, strict=True):
        if not column.any():
            raise NoWindowError(f"{name} has no good reading in the window")
    share = 1 - float(is_present.mean())
    # A hair of room: 0.1 of 10 is 1 - 0.9, which is more than 0.1.
    if share > settings.max_bad_share + 1e-9:
        worst = settings.inputs[int(is_present.mean(axis=1).argmin())]
        raise NoWindowError(
            f"{share:.0%} of the window is missing or bad, allowed is {settings.max_bad_share:.0%}; most of it: {worst}"
        )


def _column(feature: FeatureSettings, window: Floats, end_ms: int, step_ms: int) -> Floats:
    """The feature at each step; at the first there is no change."""
    of: list[Floats] = [window[:, index] for index in feature.of]
    match feature.transform:
        case "value":
            return of[0]
        case "log":
            return np.log(of[0])
        case "change":
            return np.diff(of[0], prepend=np.nan)
        case "log_change":
            return np.diff(np.log(of[0]), prepend=np.nan)
        case "log_ratio":
            # Not the logarithm of the ratio: that of two negative values has one.
            return np.asarray(np.log(of[0]) - np.log(of[1]))
        case _:
            begins_ms = end_ms - step_ms * np.arange(len(window), 0, -1, dtype=np.int64)
            return _wave(feature.transform, begins_ms)


def _wave(transform: str, begins_ms: Times) -> Floats:
    turn, _, wave = transform.partition("_")
    period_ms, passed_ms = _TURNS[turn]
    angle = 2 * np.pi * ((begins_ms + passed_ms) % period_ms) / period_ms
    return np.asarray(np.sin(angle) if wave == "sin" else np.cos(angle))


def _absolute(told: Floats, target: TargetSettings, last: Floats, settings: ModelSettings) -> Floats:
    """A target's numbers in its unit, [horizons, quantiles]."""
    value: Floats = told * target.scale + target.mean
    if target.relative is None:
        return value
    base = last[target.of]
    if target.relative == "difference":
        return np.asarray(value + base)
    if base <= 0:
        raise NoWindowError(f"{settings.inputs[target.of]} is {base:g}: nothing has a ratio to it")
    return np.asarray(base * np.exp(value))
