"""What was known of the targets at each step: what baselines look at, step by step and without any window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from contract.manifest import Target
from contract.windows import Steps, actual, relative

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.data.dataset import Dataset
    from models.recipe import ForecastRecipe

    Floats: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A table's targets as time passed.

    `end_ms` int64 [steps], the steps' ends; `horizons` rising, of which the first is 1. Known at the end of its step:
    `known` [steps, targets, horizons], the outcome over the last so many steps, in the target's unit, the latest known
    where there is none, and `last` [steps, inputs] likewise. Not known then, for fitting to the past alone: `came`
    [steps, targets, horizons], the outcome over the steps that follow, as the model tells it, NaN where there is none.
    """

    end_ms: Times
    horizons: tuple[int, ...]
    known: Floats
    last: Floats
    came: Floats

    def rows(self, end_ms: Times) -> NDArray[np.int64]:
        """The places of the steps that end then."""
        return np.asarray(np.searchsorted(self.end_ms, end_ms), np.int64)


def tracks_of(dataset: Dataset, recipe: ForecastRecipe) -> tuple[Track, ...]:
    """A track for each table."""
    columns = [dataset.columns.index(each.name) for each in recipe.view.inputs]
    return tuple(
        track_of(recipe, Steps(steps.at_ms, steps.values[:, columns], steps.is_spoilt[:, columns]))
        for steps in (table.steps for table in dataset.tables)
    )


def track_of(recipe: ForecastRecipe, steps: Steps) -> Track:
    """Each outcome, moved to where it was known."""
    end_ms = _ends(recipe, steps)
    horizons = tuple(sorted({1, *recipe.horizons}))
    inputs = tuple(Target(name=each.name, of=(each.name,)) for each in recipe.view.inputs)
    came = actual(recipe.view, (*recipe.targets, *inputs), horizons, steps, end_ms)
    known = np.full_like(came, np.nan)
    for place, horizon in enumerate(horizons):
        known[horizon:, :, place] = came[:-horizon, :, place]
    known, count = filled(known), len(recipe.targets)
    last = known[:, count:, 0]  # [steps, inputs]
    return Track(end_ms, horizons, known[:, :count], last, told(recipe, came[:, :count], last))


def filled(values: Floats) -> Floats:
    """Along the first axis the latest known where nothing is; NaN before the first."""
    index = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    latest = np.maximum.accumulate(np.where(np.isnan(values), 0, index), axis=0)
    return np.take_along_axis(values, latest, axis=0)


def told(recipe: ForecastRecipe, values: Floats, last: Floats) -> Floats:
    """Values [rows, targets, ...] as the model tells them; NaN where that cannot be."""
    as_told = relative(recipe.view, recipe.targets, values, last)
    return np.where(np.isfinite(as_told), as_told, np.nan)


def _ends(recipe: ForecastRecipe, steps: Steps) -> Times:
    """Those of the steps that count, from the first to the last."""
    step_ms = recipe.view.window.step_ms
    if recipe.view.window.steps == "present" or not len(steps.at_ms):
        return steps.at_ms + step_ms
    return np.arange(steps.at_ms[0], steps.at_ms[-1] + step_ms, step_ms, dtype=np.int64) + step_ms
