"""The `train` stage: a recipe's model on all of its data, the newest of which says when to stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from models.data import load
from models.recipe import AnomalyRecipe
from models.samples import embargo_ms, samples_of
from models.training.checkpoint import Checkpoint
from models.training.document import CHECKPOINTS, MODEL_FILE, TRAINED_FILE, Trained, write_documents
from models.training.forecast import train_forecaster
from models.training.progress import epochs_shown

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.options import Options
    from models.recipe import ForecastRecipe, Recipe
    from models.samples import Samples

_VALID_SHARE: Final = 0.15


def train(recipe: Recipe, options: Options) -> None:
    """Writes `model.keras`, `trained.json` and `history.json`; one that was stopped goes on at its last epoch."""
    if isinstance(recipe, AnomalyRecipe):
        from models.anomaly.stage import train_anomaly  # noqa: PLC0415 - a forecast needs none of it

        train_anomaly(recipe, options)
    else:
        _train_forecast(recipe, options)


def _train_forecast(recipe: ForecastRecipe, options: Options) -> None:
    began_s = time.monotonic()
    place = options.work / recipe.name
    dataset = load(recipe.dataset, options)
    learnt, valid = learnt_and_valid(dataset, recipe)
    with epochs_shown(recipe, options.console) as on_epoch:
        forecaster = train_forecaster(
            recipe, learnt, valid, seed=options.seed, place=place / CHECKPOINTS, on_epoch=on_epoch
        )
    (place / TRAINED_FILE).unlink(missing_ok=True)  # it is of the model that was there
    forecaster.save(place / MODEL_FILE)
    trained = Trained(len(learnt), len(valid), forecaster.history, time.monotonic() - began_s)
    write_documents(place, recipe, options, dataset, trained)
    Checkpoint.forget(place / CHECKPOINTS)
    options.console.print(
        f"{recipe.name}: {trained.epochs} epochs on {len(learnt)} windows in {trained.seconds:.0f} s; pinball loss "
        f"{trained.history[:, 1].min():.4f} in validation, {trained.history[0, 1]:.4f} of what tells always the same"
    )


def learnt_and_valid(dataset: Dataset, recipe: ForecastRecipe) -> tuple[Samples, Samples]:
    """The windows that the weights are learnt from, and newer ones that only say when to stop."""
    samples = samples_of(dataset, recipe, stride=recipe.stride)
    return samples.split(_VALID_SHARE, embargo_ms(dataset, recipe.view, recipe.horizons[-1]))
