"""Whether the model is better than what it is compared with, on the same windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from models.errors import EvaluationError
from models.evaluation.measures import absolute_error, pinball
from models.evaluation.scores import cells_of
from models.evaluation.skill import block_length, diebold_mariano, overlapping, ratio_interval, skill, summed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from models.evaluation.scores import Cell
    from models.evaluation.walk import Walked

    Floats: TypeAlias = NDArray[np.float64]

Measure: TypeAlias = Literal["pinball", "median"]
MEASURES: Final[tuple[Measure, ...]] = ("pinball", "median")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Skill, 1 - the model's loss / the other's, with its 95 % interval; the model's loss is its seeds' mean.

    `measure`: pinball of all quantiles, or the absolute error of the median. `p` is that of equal losses (Diebold and
    Mariano). `blocks`: how many blocks of time the interval rests on.
    """

    against: str
    target: str
    horizon: int | None
    measure: Measure
    windows: int
    blocks: int
    skill: float
    low: float
    high: float
    p: float
    by_seed: tuple[float, ...]
    by_fold: tuple[float, ...]


def comparisons_of(walked: Walked, seed: int) -> list[Comparison]:
    """With each of the others, by target and horizon."""
    return [
        made
        for cell in cells_of(walked.recipe)
        for measure in MEASURES
        for made in _with_others(walked, cell, measure, seed)
    ]


def strongest_of(walked: Walked, target: int) -> str:
    """What is hardest to beat: of those that told all windows the one with the least pinball loss.

    One that told some alone takes its place where it was better on these, beyond doubt.
    """
    losses = {name: _loss(walked, told[:, target], target) for name, told in walked.others.items()}
    whole = {name: loss for name, loss in losses.items() if np.isfinite(loss).mean() > _NEARLY_ALL}
    if not whole:
        raise EvaluationError(f"{walked.recipe.targets[target].name}: too little data to compare with anything")
    strongest = min(whole, key=lambda name: float(np.nanmean(whole[name])))
    for name in sorted(losses.keys() - whole.keys()):
        told = np.isfinite(losses[name]) & np.isfinite(losses[strongest])
        if not told.any():
            continue
        by_time = summed((losses[name] - losses[strongest])[told], walked.test.end_ms[told])
        lags = overlapping(walked.test.end_ms[told], walked.span_ms(max(walked.recipe.horizons))) - 1
        if by_time.sum() < 0 and diebold_mariano(by_time, lags) < _BEYOND_DOUBT:
            strongest = name
    return strongest


# A baseline that looks back further than the window may have nothing to tell of a table's first ones.
_NEARLY_ALL: Final = 0.9
_BEYOND_DOUBT: Final = 0.05


def _loss(walked: Walked, told: Floats, target: int) -> Floats:
    """Of each window: pinball over horizons and quantiles."""
    return np.asarray(pinball(walked.test.y[:, target], told, walked.recipe.quantiles).mean(axis=(1, 2)), np.float64)


def _with_others(walked: Walked, cell: Cell, measure: Measure, seed: int) -> Iterator[Comparison]:
    quantiles, y = walked.recipe.quantiles, cell.of(walked.test.y)

    def loss(told: Floats) -> Floats:
        of_each = pinball(y, told, quantiles) if measure == "pinball" else absolute_error(y, told, quantiles)
        return np.asarray(of_each.reshape(len(y), -1).mean(axis=1), np.float64)

    ours = np.stack([loss(cell.of(told)) for told in walked.told])  # [seeds, windows]
    for name, told in walked.others.items():
        theirs = loss(cell.of(told))
        if np.isfinite(theirs).any():
            yield _compared(walked, cell, (name, measure, seed), ours, theirs)


def _compared(walked: Walked, cell: Cell, what: tuple[str, Measure, int], ours: Floats, theirs: Floats) -> Comparison:
    against, measure, seed = what
    told = np.isfinite(theirs)
    ours, theirs, end_ms, fold = ours[:, told], theirs[told], walked.test.end_ms[told], walked.fold[told]
    longest = max(walked.recipe.horizons)
    ours_by_time, theirs_by_time = summed(ours.mean(axis=0), end_ms), summed(theirs, end_ms)
    block = block_length(end_ms, walked.span_ms(longest))
    interval = ratio_interval(ours_by_time, theirs_by_time, block, seed)
    lags = overlapping(end_ms, walked.span_ms(cell.horizon or longest)) - 1
    return Comparison(
        against=against,
        target=cell.target,
        horizon=cell.horizon,
        measure=measure,
        windows=len(theirs),
        blocks=len(ours_by_time) // block,
        skill=interval.value,
        low=interval.low,
        high=interval.high,
        p=diebold_mariano(ours_by_time - theirs_by_time, lags),
        by_seed=tuple(skill(float(each.sum()), float(theirs.sum())) for each in ours),
        by_fold=tuple(
            skill(float(ours.mean(axis=0)[fold == each.number].sum()), float(theirs[fold == each.number].sum()))
            for each in walked.folds
        ),
    )
