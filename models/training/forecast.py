"""Training a forecaster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.errors import TrainingError
from models.forecaster import Forecaster
from models.nets.forecast import forecast_core, forecast_model, output_shape, pinball
from models.scaler import Scaler
from models.training.loop import Pairs, fit_net
from models.training.tensorflow import keras, seeded

if TYPE_CHECKING:
    from pathlib import Path

    from models.recipe import ForecastRecipe
    from models.samples import Samples
    from models.training.loop import OnEpoch

_LEAST_TRAIN, _LEAST_VALID = 100, 20


def train_forecaster(
    recipe: ForecastRecipe,
    train: Samples,
    valid: Samples,
    *,
    seed: int,
    place: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Forecaster:
    """A net trained on the one and stopped by the other; `place` is where its checkpoint lies, by which it goes on.

    Raises TrainingError where there are too few windows, or a feature or target is constant.
    """
    for what, samples, least in (("train on", train, _LEAST_TRAIN), ("validate with", valid, _LEAST_VALID)):
        if len(samples) < least:
            raise TrainingError(f"{recipe.name}: {len(samples)} windows to {what}: wanted are {least} at least")
    scaler = Scaler.fitted(recipe.view, recipe.targets, train.x, train.y)
    seeded(seed)
    core = forecast_core(recipe)
    pairs = Pairs(scaler.features(train.x), scaler.targets(train.y))
    _begin_at_quantiles(recipe, core, pairs)
    valid_pairs = Pairs(scaler.features(valid.x), scaler.targets(valid.y))
    loss = pinball(recipe.quantiles)
    history = fit_net(core, loss, pairs, valid_pairs, recipe.fit, seed=seed, place=place, on_epoch=on_epoch)
    return Forecaster(recipe, forecast_model(recipe, core, scaler), scaler, history)


def _begin_at_quantiles(recipe: ForecastRecipe, core: keras.Model, train: Pairs) -> None:
    """An untrained net tells what came how often: it is left at that when nothing better is learnt."""
    often = np.quantile(train.y, recipe.quantiles, axis=0)  # [Q, T, H]
    _, bias = core.get_layer("quantiles").weights
    bias.assign(np.moveaxis(often, 0, -1).reshape(np.prod(output_shape(recipe))))  # [T * H * Q]
