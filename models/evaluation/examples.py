"""Forecasts to look at: some taken at even times, chosen by nobody, and the ones that were furthest off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from contract.windows import absolute
from models.evaluation.measures import pinball

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from models.evaluation.walk import Walked

    Floats: TypeAlias = NDArray[np.float64]

EVEN: Final = 2
WORST: Final = 2
# How many times the longest horizon is shown of what was before.
_PAST: Final = 3
_LEAST_PAST: Final = 30


@dataclass(frozen=True, slots=True)
class Example:
    """A forecast made at `end_ms` (UTC) of a target of a table, in the target's unit.

    `past`: what was known at each step up to then; `came`: what came after, at `ahead` steps; `told`: quantiles at each
    horizon. `is_worst`: it is shown for being far off.
    """

    target: str
    table: str
    end_ms: int
    is_worst: bool
    past: tuple[float, ...]
    ahead: tuple[int, ...]
    came: tuple[float, ...]
    horizons: tuple[int, ...]
    told: tuple[tuple[float, ...], ...]


def examples_of(walked: Walked, keys: tuple[str, ...]) -> list[Example]:
    """Of each target, by the first seed's nets; `keys` are the tables' names."""
    made = []
    for target in range(len(walked.recipe.targets)):
        worst = list(_worst(walked, target))
        even = np.linspace(0, len(walked.test) - 1, EVEN + 2).round().astype(int)[1:-1]
        made += [_example(walked, keys, target, int(window), is_worst=False) for window in even]
        made += [_example(walked, keys, target, window, is_worst=True) for window in worst]
    return made


def _worst(walked: Walked, target: int) -> Iterator[int]:
    """Windows of the greatest loss, each at another time: by the naive error of its table, as tables differ."""
    y, told, scale = walked.test.y[:, target], walked.told[0][:, target], walked.scale[:, target]
    loss = pinball(y, told, walked.recipe.quantiles).mean(axis=2) / np.where(scale > 0, scale, np.nan)
    loss = np.nan_to_num(loss.mean(axis=1))
    apart_ms = walked.recipe.view.window.step_ms * (max(walked.recipe.horizons) + walked.recipe.view.window.length)
    for _ in range(WORST):
        window = int(loss.argmax())
        if loss[window] <= 0:
            return
        yield window
        loss = np.where(np.abs(walked.test.end_ms - walked.test.end_ms[window]) < apart_ms, 0.0, loss)


def _example(walked: Walked, keys: tuple[str, ...], target: int, window: int, *, is_worst: bool) -> Example:
    recipe, test = walked.recipe, walked.test
    one = slice(window, window + 1)
    told = absolute(recipe.view, recipe.targets, walked.told[0][one], test.last[one])[0, target]
    came = absolute(recipe.view, recipe.targets, test.y[one].astype(np.float64), test.last[one])[0, target]
    track = walked.tracks[test.table[window]]
    row = int(track.rows(test.end_ms[one])[0])
    longest = max(recipe.horizons)
    is_rms = recipe.targets[target].over == "rms"
    known = track.known[:, target, -1 if is_rms else 0]
    ahead = recipe.horizons if is_rms else tuple(range(1, longest + 1))
    after = came if is_rms else known[row + 1 : row + 1 + longest]
    return Example(
        target=recipe.targets[target].name,
        table=keys[test.table[window]],
        end_ms=int(test.end_ms[window]),
        is_worst=is_worst,
        past=tuple(known[max(0, row + 1 - max(_PAST * longest, _LEAST_PAST)) : row + 1].tolist()),
        ahead=ahead,
        came=tuple(after.tolist()),
        horizons=recipe.horizons,
        told=tuple(tuple(each) for each in told.tolist()),
    )
