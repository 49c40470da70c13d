"""The walk forward: what the net and what needs none would have told of each fold, from what was before it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import numpy as np

from models.evaluation.baselines import baselines, naive_error
from models.evaluation.ets import Answers, ets_jobs, ets_told
from models.evaluation.fitting import past_of
from models.evaluation.folds import Parts, folds_of, parts_of
from models.evaluation.pool import Job, run_all
from models.evaluation.tracks import tracks_of
from models.samples import Samples, samples_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.data.dataset import Dataset
    from models.evaluation.fitting import Past
    from models.evaluation.folds import Fold
    from models.evaluation.pool import Tell
    from models.evaluation.tracks import Track
    from models.options import Options
    from models.recipe import ForecastRecipe

    Floats: TypeAlias = NDArray[np.float64]

# Of the steps of `present` few are longer, such as those over holidays.
_USUAL: Final = 0.95

_Arrays = TypeVar("_Arrays", Samples, Parts)


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A net of one fold and seed: what it told of the test, [windows, targets, horizons, quantiles], and its losses."""

    fold: int
    seed: int
    told: NDArray[np.float32]
    history: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """All windows of all folds' tests, in order of their ends, and what was told of them.

    As the model tells its targets: `told` [seeds, windows, targets, horizons, quantiles], the same without seeds of
    each of `others`, NaN where it has none; `scale` [windows, targets, horizons] the naive forecast's mean absolute
    error before the fold, for the window's table. `end_ms` is of all windows, as `parts` are, `test` those that were
    judged; `fold` [windows] says whose test a window was.
    """

    recipe: ForecastRecipe
    folds: tuple[Fold, ...]
    parts: tuple[Parts, ...]
    tracks: tuple[Track, ...]
    learnt: tuple[Learnt, ...]
    end_ms: NDArray[np.int64]
    test: Samples
    fold: NDArray[np.int64]
    told: Floats
    others: dict[str, Floats]
    scale: Floats

    def span_ms(self, horizon: int) -> int:
        """How long so many steps take, but for some that span a pause."""
        spans = [track.end_ms[horizon:] - track.end_ms[:-horizon] for track in self.tracks]
        return int(np.quantile(np.concatenate(spans), _USUAL))


def walk(dataset: Dataset, recipe: ForecastRecipe, options: Options) -> Walked:
    """Trains for each fold and seed, and fits what it is compared with."""
    samples = samples_of(dataset, recipe, stride=recipe.stride)
    tracks = tracks_of(dataset, recipe)
    folds = folds_of(samples.end_ms, recipe.judged)
    parts = tuple(cut(recipe, fold, samples, tracks) for fold in folds)
    pasts = tuple(past_of(recipe, tracks, known_before(part, samples, tracks)) for part in parts)
    test = samples.where(np.logical_or.reduce([part.test for part in parts]))
    asked = ets_jobs(pasts[0], test.end_ms, test.table, quick=options.quick)
    with tempfile.TemporaryDirectory(prefix="evaluation-") as place:
        jobs: list[Job[Learnt | Answers]] = [*_lay_down(recipe, samples, folds, parts, Path(place)), *asked]
        results = run_all(jobs, options.jobs, options.console)
    learnt = tuple(each for each in results if isinstance(each, Learnt))
    told = np.stack([_of_seed(learnt, seed) for seed in recipe.judged.seeds])
    others, scale = _compared(parts, pasts, samples)
    others["autoets"] = ets_told([each for each in results if isinstance(each, Answers)], told[0])
    which = np.concatenate(
        [np.full(np.count_nonzero(part.test), each.number) for each, part in zip(folds, parts, strict=True)]
    )
    return Walked(recipe, folds, parts, tracks, learnt, samples.end_ms, test, which, told, others, scale)


def cut(recipe: ForecastRecipe, fold: Fold, samples: Samples, tracks: Sequence[Track]) -> Parts:
    """The windows of a fold, with an embargo of all that a window looks at and forecasts."""
    embargo = recipe.view.window.length + recipe.view.reach + max(recipe.horizons)
    return parts_of(fold, samples.end_ms, samples.table, [track.end_ms for track in tracks], embargo)


def known_before(part: Parts, samples: Samples, tracks: Sequence[Track]) -> list[NDArray[np.bool_]]:
    """Which steps of each table baselines are fitted to: up to the last window before the test and its embargo."""
    last = [samples.end_ms[part.fit & (samples.table == key)] for key in range(len(tracks))]
    return [track.end_ms <= (ends[-1] if len(ends) else -np.inf) for track, ends in zip(tracks, last, strict=True)]


def learn(recipe: ForecastRecipe, fold: Fold, seed: int, place: Path, tell: Tell) -> Learnt:
    """Runs in a worker."""
    from models.training.forecast import train_forecaster  # noqa: PLC0415 - TensorFlow, and in workers alone

    part = _taken_up(place, f"part{fold.number}", Parts)
    samples = _taken_up(place, "samples", Samples)

    def on_epoch(epoch: int, loss: float, valid_loss: float) -> None:
        tell(epoch / recipe.fit.epochs, f"epoch {epoch}: {loss:.4f}, validation {valid_loss:.4f}")

    forecaster = train_forecaster(
        recipe, samples.where(part.train), samples.where(part.valid), seed=seed, on_epoch=on_epoch
    )
    return Learnt(fold.number, seed, forecaster.predict(samples.x[part.test]), forecaster.history)


def _lay_down(
    recipe: ForecastRecipe, samples: Samples, folds: Sequence[Fold], parts: Sequence[Parts], place: Path
) -> list[Job[Learnt]]:
    """The trainings, and as files what they need: they share its pages."""
    _write(place, "samples", samples)
    for fold, part in zip(folds, parts, strict=True):
        _write(place, f"part{fold.number}", part)
    return [
        Job(f"fold {fold.number} of {len(folds)}, seed {seed}", partial(learn, recipe, fold, seed, place))
        for fold in folds
        for seed in recipe.judged.seeds
    ]


def _write(place: Path, name: str, arrays: Samples | Parts) -> None:
    for each in fields(arrays):
        np.save(place / f"{name}-{each.name}.npy", getattr(arrays, each.name))


def _taken_up(place: Path, name: str, kind: type[_Arrays]) -> _Arrays:
    return kind(*(np.load(place / f"{name}-{each.name}.npy", mmap_mode="r") for each in fields(kind)))


def _of_seed(learnt: Sequence[Learnt], seed: int) -> Floats:
    return np.concatenate([each.told for each in learnt if each.seed == seed]).astype(np.float64)


def _compared(parts: Sequence[Parts], pasts: Sequence[Past], samples: Samples) -> tuple[dict[str, Floats], Floats]:
    """Of each baseline the quantiles of all folds' windows, and the naive forecast's error on what was before."""
    told: dict[str, list[Floats]] = {}
    scales = []
    for part, past in zip(parts, pasts, strict=True):
        test = samples.where(part.test)
        masks = [test.table == key for key in range(len(past.tracks))]
        rows = [track.rows(test.end_ms[mask]) for track, mask in zip(past.tracks, masks, strict=True)]
        for name, by_table in baselines(past, rows).items():
            told.setdefault(name, []).append(_by_window(masks, by_table))
        error = naive_error(past)  # [tables, targets, horizons]
        scales.append(error[test.table])
    return {name: np.concatenate(each) for name, each in told.items()}, np.concatenate(scales)


def _by_window(masks: Sequence[NDArray[np.bool_]], by_table: Sequence[Floats]) -> Floats:
    made = np.empty((len(masks[0]), *by_table[0].shape[1:]))
    for mask, values in zip(masks, by_table, strict=True):
        made[mask] = values
    return made
