"""From readings by step to the model's window, and from its output to a result. Pure; the rules are the manifest's."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edge.inference.settings import BAD, FORECAST, GOOD, RECONSTRUCTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge.inference.settings import ModelSettings

    Floats: TypeAlias = NDArray[np.float32]
    Bytes: TypeAlias = NDArray[np.uint8]
    Mask: TypeAlias = NDArray[np.bool_]


class NoWindowError(Exception):
    """Too much of a window is missing; the message says how much."""


def window_of(values: Floats, states: Bytes, settings: ModelSettings) -> Floats:
    """The window in units, [length, channels], from values and states [channels, rows]; raises NoWindowError."""
    latest, is_present = _held(states, np.asarray(settings.hold_steps)[:, None])
    latest, is_present = latest[:, -settings.length :], is_present[:, -settings.length :]
    _check(is_present, settings)
    # What is missing is the value before it, or, at the beginning, the first.
    columns = np.arange(settings.length)
    source = np.maximum.accumulate(np.where(is_present, columns, -1), axis=1)
    source = np.where(source < 0, is_present.argmax(axis=1)[:, None], source)
    return np.take_along_axis(values, np.take_along_axis(latest, source, axis=1), axis=1).T


def scaled(window: Floats, settings: ModelSettings) -> Floats:
    """The window as the model takes it, [1, length, channels]."""
    mean, scale = np.asarray(settings.mean), np.asarray(settings.scale)
    # In float64: in float32 a pressure in Pa would lose its changes to its mean.
    model_input: Floats = ((window - mean) / scale).astype(np.float32)[None]
    return model_input


def result_of(output: Floats, window: Floats, model_input: Floats, settings: ModelSettings) -> Floats:
    """The numbers of a result: a forecast in units; or the score, and for a reconstruction each input's share of it."""
    if settings.output == FORECAST:
        since = np.asarray(settings.out_since)
        base = np.where(since < 0, 0.0, window[-1][since])
        told = output.reshape(-1) * np.asarray(settings.out_scale) + np.asarray(settings.out_mean) + base
        return np.asarray(told, np.float32)
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
