"""What is learnt from, what stops the learning, what sets the threshold, and what is judged on: in order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.anomaly.truth import Truth, truth_of
from models.data import load
from models.errors import DataError
from models.samples import embargo_ms, window_samples

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.options import Options
    from models.recipe import AnomalyRecipe
    from models.samples import Samples

# Of what is not judged on. A stated rate of false alarms needs many windows: see `threshold`.
_CALIBRATION_SHARE: Final = 0.35
_VALID_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """Normal windows of `dataset`; `train` and `valid` are every `stride`-th, `calibration` has each."""

    dataset: Dataset
    train: Samples
    valid: Samples
    calibration: Samples


@dataclass(frozen=True, slots=True, eq=False)
class Test:
    """All windows that are judged on, and what is known of them."""

    dataset: Dataset
    samples: Samples
    truth: Truth


def past_of(recipe: AnomalyRecipe, options: Options) -> Past:
    """What a model may see. Windows in or after a known incident are left out: it learns what is normal."""
    dataset = load(recipe.dataset, options)
    every, gap_ms = window_samples(dataset, recipe.view, stride=1), embargo_ms(dataset, recipe.view)
    if recipe.judged_on is None:
        every, _ = every.split(recipe.judged.test_share, gap_ms)
    normal = every.where(truth_of(dataset, recipe.view, every).is_normal)
    learnt, calibration = normal.split(_CALIBRATION_SHARE, gap_ms)
    train, valid = learnt.split(_VALID_SHARE, gap_ms)
    train, valid = (
        each.where(each.end_ms // recipe.view.window.step_ms % recipe.stride == 0) for each in (train, valid)
    )
    return Past(dataset, train, valid, calibration)


def test_of(recipe: AnomalyRecipe, options: Options) -> Test:
    """What no model has seen; raises DataError where nothing is known to have gone wrong in it."""
    dataset = load(recipe.judged_on or recipe.dataset, options)
    samples = window_samples(dataset, recipe.view, stride=1)
    if recipe.judged_on is None:
        _, samples = samples.split(recipe.judged.test_share, embargo_ms(dataset, recipe.view))
    truth = truth_of(dataset, recipe.view, samples)
    if not truth.events or not truth.is_normal.any():
        raise DataError(
            f"{dataset.name}: {len(truth.events)} incidents to judge on, or nothing else: there must be both"
        )
    return Test(dataset, samples, truth)
