"""A trained forecast: what it tells of windows, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np

from models.errors import ModelsError
from models.nets.forecast import output_shape
from models.scaler import Scaler
from models.training.tensorflow import keras

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.recipe import ForecastRecipe

    Floats: TypeAlias = NDArray[np.float32]

_BATCH: Final = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Forecaster:
    """A net with its scaling in it, which is what is saved.

    `history` float64 [1 + epochs, 2] is its loss in training and in validation, first of the untrained net, which tells
    the quantiles of what it was to learn from; empty when it was loaded.
    """

    recipe: ForecastRecipe
    model: keras.Model
    scaler: Scaler
    history: NDArray[np.float64]

    @property
    def core(self) -> keras.Model:
        """The same weights without the scaling: [n, L, F] to [n, T * H * Q], which is what is converted."""
        return self.model.get_layer("core")

    def predict(self, x: Floats) -> Floats:
        """Windows [n, L, F] as they are to targets [n, T, H, Q] as the model tells them, quantiles rising."""
        told = [self.model.predict_on_batch(x[at : at + _BATCH]) for at in range(0, len(x), _BATCH)]
        return np.sort(np.concatenate(told), axis=-1)  # [n, T, H, Q]

    def save(self, path: Path) -> None:
        """To a file `*.keras`, whole or not at all, which Keras 2 loads without our code."""
        unfinished = path.with_name(f"next.{path.name}")
        self.model.save(unfinished)
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path, recipe: ForecastRecipe) -> Self:
        """What was saved; raises ModelsError where it is not that or not of this recipe."""
        try:
            model = keras.models.load_model(path, compile=False, safe_mode=True)
            scaler = Scaler(*_moments(model, "scaled"), *_moments(model, "unscaled"))
            model.get_layer("core")
        except Exception as exc:  # Keras raises anything at what it did not write
            raise ModelsError(f"{path}: is no forecast: {' '.join(str(exc).split())[:300]}") from exc
        wanted = (recipe.view.window.length, len(recipe.view.features))
        if model.input_shape[1:] != wanted:
            raise ModelsError(f"{path}: windows of {model.input_shape[1:]}: wanted are {wanted}")
        if model.output_shape[1:] != output_shape(recipe):
            raise ModelsError(f"{path}: tells {model.output_shape[1:]}: wanted are {output_shape(recipe)}")
        return cls(recipe, model, scaler, np.empty((0, 2)))


def _moments(model: keras.Model, layer: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    config = model.get_layer(layer).get_config()
    return np.array(config["mean"], np.float64), np.sqrt(np.array(config["variance"], np.float64))
