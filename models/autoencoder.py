"""A trained autoencoder: how unusual windows are to it, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np

from models.errors import ModelsError
from models.scaler import Scaler
from models.training.tensorflow import keras

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.recipe import AnomalyRecipe

    Floats: TypeAlias = NDArray[np.float32]

_BATCH: Final = 2048
_MOST_AMPLIFIED: Final = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Autoencoder:
    """`model` has its scaling in it and is what is saved; `history` float64 [1 + epochs, 2] is how it was trained."""

    recipe: AnomalyRecipe
    model: keras.Model
    scaler: Scaler
    history: NDArray[np.float64]

    @property
    def core(self) -> keras.Model:
        """The same weights without the scaling: [n, L, F] to [n, L, F], which is what is converted."""
        return self.model.get_layer("core")

    def errors(self, x: Floats) -> Floats:
        """Windows [n, L, F] as they are to the mean square of the scaled difference by feature, float32 [n, F]."""
        return np.concatenate([self._errors(x[at : at + _BATCH]) for at in range(0, len(x), _BATCH)])

    def scores(self, x: Floats) -> Floats:
        """Windows [n, L, F] as they are to the score that the manifest means, float32 [n]."""
        return np.asarray(self.errors(x).mean(axis=1), np.float32)

    def calibration_windows(self, x: Floats) -> Floats:
        """Windows [n, L, F] as they are to what the core is to be calibrated by, float32 [n, L, F].

        Every other one is made up to twice as far from the mean: with normal ones alone the int8 form would clip what
        it is for; with much larger ones its steps get too coarse for what is normal.
        """
        scaled = self.scaler.features(x)  # [n, L, F]
        scaled[::2] *= np.linspace(1, _MOST_AMPLIFIED, len(scaled[::2]), dtype=np.float32)[:, None, None]
        return scaled

    def save(self, path: Path) -> None:
        """To a file `*.keras`, whole or not at all, which Keras 2 loads without our code."""
        unfinished = path.with_name(f"next.{path.name}")
        self.model.save(unfinished)
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path, recipe: AnomalyRecipe) -> Self:
        """What was saved; raises ModelsError where it is not that or not of this recipe."""
        try:
            model = keras.models.load_model(path, compile=False, safe_mode=True)
            config = model.get_layer("scaled").get_config()
            model.get_layer("core")
        except Exception as exc:  # Keras raises anything at what it did not write
            raise ModelsError(f"{path}: is no autoencoder: {' '.join(str(exc).split())[:300]}") from exc
        wanted = (recipe.view.window.length, len(recipe.view.features))
        if model.input_shape[1:] != wanted:
            raise ModelsError(f"{path}: windows of {model.input_shape[1:]}: wanted are {wanted}")
        mean, variance = (np.array(config[name], np.float64) for name in ("mean", "variance"))
        return cls(recipe, model, Scaler(mean, np.sqrt(variance), np.empty(0), np.empty(0)), np.empty((0, 2)))

    def _errors(self, x: Floats) -> Floats:
        scaled = self.scaler.features(x)  # [n, L, F]
        return np.asarray(np.square(self.core.predict_on_batch(scaled) - scaled).mean(axis=1), np.float32)  # [n, F]
