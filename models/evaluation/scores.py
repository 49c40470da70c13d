"""How each did, by target and horizon."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from models.evaluation.measures import is_within, mase, mean, mean_over_first, pinball, reliability, rmse, width

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.evaluation.walk import Walked
    from models.recipe import ForecastRecipe

    Floats: TypeAlias = NDArray[np.float64]

MODEL: Final = "model"


@dataclass(frozen=True, slots=True)
class Cell:
    """A target, and one of its horizons, in steps, or all of them."""

    target: str
    horizon: int | None
    place: int
    columns: slice

    def of(self, values: NDArray[np.floating[Any]]) -> Floats:
        """What belongs to it, of [windows, targets, horizons, ...]."""
        return np.asarray(values[:, self.place, self.columns], np.float64)


def cells_of(recipe: ForecastRecipe) -> Iterator[Cell]:
    """Each target in all, then each of its horizons."""
    for place, target in enumerate(recipe.targets):
        yield Cell(target.name, None, place, slice(None))
        for column, horizon in enumerate(recipe.horizons):
            yield Cell(target.name, horizon, place, slice(column, column + 1))


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is measured, in the unit that the model tells the target in: see `models.evaluation.measures`.

    `rmse_ratio` is by the naive forecast's; `coverage` and `width` are from the lowest to the highest quantile.
    """

    pinball: float
    pinball_by_quantile: tuple[float, ...]
    mase: float
    rmse: float
    rmse_ratio: float
    coverage: float
    width: float
    reliability: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """How one did on so many windows; AutoETS does on fewer than all others. Of the model it is its seeds' mean."""

    by: str
    target: str
    horizon: int | None
    windows: int
    numbers: Numbers


def scores_of(walked: Walked) -> list[Score]:
    """Of the model and of all that it is compared with."""
    return [score for cell in cells_of(walked.recipe) for score in _scores_of(walked, cell)]


def _scores_of(walked: Walked, cell: Cell) -> Iterator[Score]:
    yield Score(
        MODEL,
        cell.target,
        cell.horizon,
        len(walked.test),
        _mean([_numbers(walked, cell, told) for told in walked.told]),
    )
    for name, told in walked.others.items():
        if windows := int(np.isfinite(cell.of(told)).all(axis=(1, 2)).sum()):
            yield Score(name, cell.target, cell.horizon, windows, _numbers(walked, cell, told))


def _numbers(walked: Walked, cell: Cell, told: Floats) -> Numbers:
    quantiles = walked.recipe.quantiles
    y, told, naive = cell.of(walked.test.y), cell.of(told), cell.of(walked.others["naive"])
    naive = np.where(np.isnan(told), np.nan, naive)
    loss = pinball(y, told, quantiles)
    error = rmse(y, told, quantiles)
    return Numbers(
        pinball=mean(loss),
        pinball_by_quantile=tuple(mean_over_first(loss.reshape(-1, len(quantiles))).tolist()),
        mase=mase(y, told, quantiles, cell.of(walked.scale)),
        rmse=error,
        rmse_ratio=error / of_naive if (of_naive := rmse(y, naive, quantiles)) > 0 else float("nan"),
        coverage=mean(is_within(y, told)),
        width=mean(width(told)),
        reliability=tuple(reliability(y, told).tolist()),
    )


def _mean(of_seeds: Sequence[Numbers]) -> Numbers:
    means: dict[str, object] = {}
    for each in fields(Numbers):
        values = np.mean([getattr(numbers, each.name) for numbers in of_seeds], axis=0)
        means[each.name] = tuple(values.tolist()) if values.ndim else float(values)
    return Numbers(**means)  # type: ignore[arg-type] # the same fields, of the same types
