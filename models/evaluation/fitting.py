"""From a point forecast to quantiles: by its own past errors, of the part that is fitted to and nothing later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from models.evaluation.measures import mean_over_first, pinball

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.evaluation.tracks import Track
    from models.recipe import ForecastRecipe

    Floats: TypeAlias = NDArray[np.float64]
    Rows: TypeAlias = NDArray[np.int64]

# A table with fewer errors than this has the quantiles of all.
LEAST_ERRORS: Final = 50
# More steps of a table make its quantiles no better.
MOST_ERRORS: Final = 5000


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What is fitted to: of each table the track and which of its steps, whose outcomes all lie before the test."""

    recipe: ForecastRecipe
    tracks: tuple[Track, ...]
    fit: tuple[Rows, ...]

    @property
    def columns(self) -> list[int]:
        """Where the recipe's horizons stand among the tracks'."""
        return [self.tracks[0].horizons.index(each) for each in self.recipe.horizons]

    def is_spread(self, place: int) -> bool:
        """Whether that target says how far something moves: it was never below 0."""
        target = self.recipe.targets[place]
        if target.over == "rms":
            return True
        known = [track.known[rows, place, 0] for track, rows in zip(self.tracks, self.fit, strict=True)]
        return target.transform == "log_ratio" and not (np.concatenate(known) < 0).any()

    def least(self, values: Sequence[Floats]) -> float:
        """What counts as nothing beside such values [steps, ...] of each table: a thousandth of the usual."""
        known = np.concatenate([np.abs(each[rows]).reshape(-1) for each, rows in zip(values, self.fit, strict=True)])
        known = known[np.isfinite(known) & (known > 0)]
        return 1e-3 * float(np.median(known)) if len(known) else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Points by table; errors are divided by `scale` [steps, targets, 1], which is told by table too."""

    points: list[Floats]
    scale: list[Floats]


def past_of(recipe: ForecastRecipe, tracks: Sequence[Track], fit: Sequence[NDArray[np.bool_]]) -> Past:
    """What is fitted to, of the steps marked in `fit`."""
    rows = [np.flatnonzero(each) for each in fit]
    return Past(recipe, tuple(tracks), tuple(each[:: math.ceil(len(each) / MOST_ERRORS) or 1] for each in rows))


def best(past: Past, candidates: Sequence[Candidate], rows: Sequence[Rows]) -> list[Floats]:
    """The quantiles of that candidate which would have told the fitted part best, for each target and horizon."""
    losses = np.array([_losses(past, each) for each in candidates])  # [candidates, targets, horizons]
    chosen = np.where(np.isnan(losses), np.inf, losses).argmin(axis=0)  # [targets, horizons]
    made = [np.empty((len(each), *chosen.shape, len(past.recipe.quantiles))) for each in rows]
    for place in np.unique(chosen):
        for table, told in zip(made, spread(past, candidates[place], rows), strict=True):
            table[:, chosen == place] = told[:, chosen == place]
    return made


def spread(past: Past, candidate: Candidate, rows: Sequence[Rows]) -> list[Floats]:
    """Quantiles [rows, targets, horizons, quantiles] of each table: points and the quantiles of their errors."""
    errors = [
        ((track.came[fit][:, :, past.columns] - points[fit]) / scale[fit])
        for track, points, scale, fit in zip(past.tracks, candidate.points, candidate.scale, past.fit, strict=True)
    ]
    of_all = _quantiles(np.concatenate(errors), past.recipe.quantiles)
    made = []
    for error, points, scale, wanted in zip(errors, candidate.points, candidate.scale, rows, strict=True):
        own = _quantiles(error, past.recipe.quantiles)  # [targets, horizons, quantiles]
        made.append(points[wanted][..., None] + scale[wanted][..., None] * np.where(np.isnan(own), of_all, own))
    return made


def _quantiles(errors: Floats, quantiles: Sequence[float]) -> Floats:
    """Of what is known [targets, horizons, quantiles]; NaN where that is too little."""
    made = np.full((*errors.shape[1:], len(quantiles)), np.nan)
    for place in np.ndindex(errors.shape[1:]):
        known = errors[:, place[0], place[1]]
        known = known[np.isfinite(known)]
        if len(known) >= LEAST_ERRORS:
            made[place] = np.quantile(known, quantiles)
    return made


def _losses(past: Past, candidate: Candidate) -> Floats:
    """Mean pinball [targets, horizons] on the fitted part; NaN where there is none."""
    made = spread(past, candidate, past.fit)
    came = [track.came[fit][:, :, past.columns] for track, fit in zip(past.tracks, past.fit, strict=True)]
    loss = pinball(np.concatenate(came), np.concatenate(made), past.recipe.quantiles)
    return mean_over_first(loss.mean(axis=-1))
