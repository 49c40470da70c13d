"""What needs no network, as quantiles: each is a point forecast with the quantiles of its own past errors.

Points are arrays [steps, targets, horizons] by what was known at the end of each step, as the model tells its targets.
Errors are those of the part that is fitted to, by table and horizon; a table that is new has those of all the others.
Where a forecast leaves a choice (how fast it forgets, whether errors add or multiply), what would have told the fitted
part best is taken, for each target and horizon: a comparison is worth as much as what it is with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from models.evaluation.fitting import Candidate, best
from models.evaluation.measures import mean_over_first
from models.evaluation.points import coefficients, regressors, same_change, same_season, smoothed
from models.evaluation.tracks import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.evaluation.fitting import Past
    from models.evaluation.tracks import Track

    Floats: TypeAlias = NDArray[np.float64]
    Rows: TypeAlias = NDArray[np.int64]

SOURCES: Final = {
    "naive": "the last outcome again; for changes, none",
    "seasonal_naive": "the outcome a season ago again, or the change of then",
    "scaled_naive": "naive, as wide as things have moved of late: filtered historical simulation (Barone-Adesi, "
    "Giannopoulos and Vosper 1999)",
    "ewma": "exponentially weighted average (RiskMetrics 1996)",
    "har": "heterogeneous autoregression (Corsi 2009)",
    "autoets": "exponential smoothing, chosen by information criterion (Hyndman et al. 2002), of statsforecast",
}
DECAYS: Final = (0.8, 0.9, 0.94, 0.97, 0.99)
# A day, a week and a month of trading days; for other steps as many of them.
LAGS: Final = (1, 5, 22)


def baselines(past: Past, rows: Sequence[Rows]) -> dict[str, list[Floats]]:
    """By name, of each table the quantiles [rows, targets, horizons, quantiles] at those steps; NaN for none."""
    made = {
        "naive": _naive(past),
        "seasonal_naive": _seasonal_naive(past),
        "scaled_naive": _scaled_naive(past),
        "ewma": _ewma(past),
        "har": _har(past),
    }
    return {name: best(past, candidates, rows) for name, candidates in made.items()}


def naive_error(past: Past) -> Floats:
    """The naive forecast's mean absolute error [tables, targets, horizons] on what is fitted to; MASE's scale.

    A table that is new has the mean of all.
    """
    errors = [
        np.abs(track.came[fit][:, :, past.columns] - points[fit])
        for track, points, fit in zip(past.tracks, naive_points(past), past.fit, strict=True)
    ]
    of_all = mean_over_first(np.concatenate(errors))
    made = np.array([mean_over_first(each) for each in errors])
    return np.where(np.isnan(made), of_all, made)


def _naive(past: Past) -> list[Candidate]:
    return _adding_or_multiplying(past, naive_points(past))


def naive_points(past: Past) -> list[Floats]:
    """The last outcome of each horizon again; of changes, none."""
    values = [track.known[:, :, past.columns].copy() for track in past.tracks]
    for place, target in enumerate(past.recipe.targets):
        if target.over == "at" and "change" in target.transform:
            for each in values:
                each[:, place] = 0.0
    return [told(past.recipe, each, track.last) for each, track in zip(values, past.tracks, strict=True)]


def _seasonal_naive(past: Past) -> list[Candidate]:
    """The outcome of then, or for values the change of then."""
    recipe, made = past.recipe, []
    outcomes = [same_season(track.known[:, :, past.columns], recipe.horizons, recipe.season) for track in past.tracks]
    changes = [same_change(track.known, recipe.horizons, recipe.season) for track in past.tracks]
    for place, target in enumerate(recipe.targets):
        if target.over == "rms" or "change" in target.transform:
            for each in changes:
                each[:, place] = np.nan
    for points in (outcomes, changes):
        as_told = [told(recipe, each, track.last) for each, track in zip(points, past.tracks, strict=True)]
        made += _adding_or_multiplying(past, as_told)
    return made


def _scaled_naive(past: Past) -> list[Candidate]:
    """Only of what moves to both sides."""
    points, moves = naive_points(past), [_moves(past, track) for track in past.tracks]
    for place in range(len(past.recipe.targets)):
        if past.is_spread(place):
            for each in points:
                each[:, place] = np.nan
    least = _leasts(past, moves)[:, 0]
    return [
        Candidate(points, [np.maximum(np.sqrt(smoothed(np.square(each), decay)), least)[..., None] for each in moves])
        for decay in DECAYS
    ]


def _moves(past: Past, track: Track) -> Floats:
    """How far it moved at each step [steps, targets], as the model tells it, from what the naive forecast said."""
    before = np.roll(track.last, 1, axis=0)
    now = told(past.recipe, track.known[:, :, :1], before)[:, :, 0]
    said = told(past.recipe, np.roll(track.known[:, :, :1], 1, axis=0), before)[:, :, 0]
    for place, target in enumerate(past.recipe.targets):
        if "change" in target.transform:
            said[:, place] = 0.0
    moved = now - said
    moved[:1] = np.nan
    return moved


def _ewma(past: Past) -> list[Candidate]:
    """Only of how far something moves; of root mean squares in squares."""
    made = []
    for decay in DECAYS:
        points = [np.full_like(track.came[:, :, past.columns], np.nan) for track in past.tracks]
        for place, target in enumerate(past.recipe.targets):
            if past.is_spread(place):
                power = 2 if target.over == "rms" else 1
                for each, track in zip(points, past.tracks, strict=True):
                    each[:, place] = smoothed(track.known[:, place, :1] ** power, decay) ** (1 / power)
        made += _adding_or_multiplying(past, points)
    return made


def _har(past: Past) -> list[Candidate]:
    """Only of how far something moves: one regression for all tables, of values and of logarithms."""
    made = []
    for in_logarithms in (False, True):
        points = [np.full_like(track.came[:, :, past.columns], np.nan) for track in past.tracks]
        for place in range(len(past.recipe.targets)):
            if past.is_spread(place):
                for each, fitted in zip(points, _regressed(past, place, in_logarithms=in_logarithms), strict=True):
                    each[:, place] = fitted
        made += _adding_or_multiplying(past, points)
    return made


def _regressed(past: Past, place: int, *, in_logarithms: bool) -> list[Floats]:
    """[steps, horizons] of each table."""
    recipe = past.recipe
    power = 2 if recipe.targets[place].over == "rms" else 1
    lags = (*LAGS, recipe.season) if recipe.season > LAGS[-1] else LAGS
    seen = [regressors(track.known[:, place, 0] ** power, lags) for track in past.tracks]
    came = [track.came[:, place][:, past.columns] for track in past.tracks]
    for each in seen:
        each[:, 1:] **= 1 / power
    if in_logarithms:
        least = past.least(came)
        came = [np.log(np.maximum(each, least)) for each in came]
        for each in seen:
            each[:, 1:] = np.log(np.maximum(each[:, 1:], least))
    fitted = coefficients(
        np.concatenate([each[fit] for each, fit in zip(seen, past.fit, strict=True)]),
        np.concatenate([each[fit] for each, fit in zip(came, past.fit, strict=True)]),
    )
    points = [each @ fitted for each in seen]
    return [np.exp(each) for each in points] if in_logarithms else points


def _adding_or_multiplying(past: Past, points: list[Floats]) -> list[Candidate]:
    """Errors as they are, and as shares of the point."""
    ones = [np.ones((len(each), each.shape[1], 1)) for each in points]
    least = _leasts(past, points)
    return [Candidate(points, ones), Candidate(points, [np.maximum(each, least) for each in points])]


def _leasts(past: Past, values: list[Floats]) -> Floats:
    """What counts as nothing, for each target: [targets, 1]."""
    count = len(past.recipe.targets)
    return np.array([past.least([each[:, place] for each in values]) for place in range(count)]).reshape(count, 1)
