"""Training an autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from models.anomaly.nets import anomaly_core, anomaly_model
from models.anomaly.scaling import scaler_of
from models.autoencoder import Autoencoder
from models.errors import TrainingError
from models.training.loop import Pairs, fit_net
from models.training.tensorflow import seeded, tf

if TYPE_CHECKING:
    from pathlib import Path

    from models.recipe import AnomalyRecipe
    from models.samples import Samples
    from models.training.loop import OnEpoch

_LEAST_WINDOWS: Final = 50


def train_autoencoder(
    recipe: AnomalyRecipe,
    train: Samples,
    valid: Samples,
    *,
    seed: int,
    place: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Autoencoder:
    """A net trained on the one and stopped by the other, both normal; `place` is where its checkpoint lies.

    Raises TrainingError where there are too few windows, or a feature is constant.
    """
    for what, samples in (("train on", train), ("validate with", valid)):
        if len(samples) < _LEAST_WINDOWS:
            raise TrainingError(f"{recipe.name}: {len(samples)} windows to {what}: wanted are {_LEAST_WINDOWS}")
    scaler = scaler_of(recipe, train)
    seeded(seed)
    core = anomaly_core(recipe)
    x, x_valid = scaler.features(train.x), scaler.features(valid.x)  # [n, L, F]
    pairs, valid_pairs = Pairs(x, x), Pairs(x_valid, x_valid)
    history = fit_net(core, _score, pairs, valid_pairs, recipe.fit, seed=seed, place=place, on_epoch=on_epoch)
    return Autoencoder(recipe, anomaly_model(recipe, core, scaler), scaler, history)


def _score(truth: Any, told: Any) -> Any:  # noqa: ANN401 - tensors: TensorFlow is untyped
    return tf.reduce_mean(tf.square(truth - told))  # []
