"""The autoencoders: a window goes in and comes out again, through fewer numbers than it has.

Each is learnt from what is normal, so what is not comes out changed. Built-in layers only, and of those only such as
the converter makes built-in operators of: LSTMs become fused ones, `Reshape` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.errors import TrainingError
from models.training.tensorflow import keras

if TYPE_CHECKING:
    from models.recipe import AnomalyRecipe
    from models.scaler import Scaler

layers = keras.layers

# Both halvings of the convolutional net.
_FOLD: Final = 4


def anomaly_core(recipe: AnomalyRecipe, batch: int | None = None) -> keras.Model:
    """What is trained, and converted with a batch of 1: scaled features in, scaled features out, [b, L, F] both."""
    make = {"lstm": _lstm, "conv": _conv}[recipe.net]
    return make(recipe, keras.Input((recipe.view.window.length, len(recipe.view.features)), batch_size=batch))


def anomaly_model(recipe: AnomalyRecipe, core: keras.Model, scaler: Scaler) -> keras.Model:
    """The core with its scaling: features as they are in and out, [b, L, F]."""
    moments = {"mean": scaler.feature_mean.tolist(), "variance": (scaler.feature_scale**2).tolist()}
    features = keras.Input((recipe.view.window.length, len(recipe.view.features)), name="features")  # [b, L, F]
    window = layers.Normalization(**moments, name="scaled")(features)  # [b, L, F]
    unscaled = layers.Normalization(**moments, invert=True, name="unscaled")
    return keras.Model(features, unscaled(core(window)), name="anomaly")  # [b, L, F]


def _lstm(recipe: AnomalyRecipe, window: keras.KerasTensor) -> keras.Model:
    """The window in `code` numbers: what an LSTM read in it, patch by patch; another one writes it again.

    Both have a linear way around them, because most of what sensors have to do with each other is linear: without it
    a leak comes out like anything else. The two are added and not put side by side, where in int8 they would have to
    share one scale. A patch is several steps at once, which makes it as many times faster.
    """
    length, features, code = recipe.view.window.length, len(recipe.view.features), recipe.code
    if length % recipe.patch or code % (patches := length // recipe.patch):
        raise TrainingError(
            f"{recipe.name}: {length} steps in patches of {recipe.patch}, {code} numbers: there must be as many in each"
        )
    size = recipe.patch * features
    flat = layers.Reshape((length * features,), name="flat")(window)  # [b, L * F]
    read = layers.Reshape((patches, size), name="patches")(window)  # [b, P, size]
    read = layers.LSTM(recipe.units, return_sequences=True, name="reader")(read)  # [b, P, units]
    read = layers.Reshape((patches * recipe.units,), name="read")(read)  # [b, P * units]
    said = _sum("code", code, bent=read, straight=flat)  # [b, code]
    wrote = layers.Reshape((patches, code // patches), name="parts")(said)  # [b, P, code / P]
    wrote = layers.LSTM(recipe.units, return_sequences=True, name="writer")(wrote)  # [b, P, units]
    wrote = layers.Reshape((patches * recipe.units,), name="wrote")(wrote)  # [b, P * units]
    again = _sum("written", length * features, bent=wrote, straight=said)  # [b, L * F]
    return keras.Model(window, layers.Reshape((length, features), name="again")(again), name="core")  # [b, L, F]


def _sum(name: str, size: int, *, bent: keras.KerasTensor, straight: keras.KerasTensor) -> keras.KerasTensor:
    """[b, any] and [b, any] to [b, size]."""
    memory = layers.Dense(size, name=f"{name}_bent")(bent)  # [b, size]
    linear = layers.Dense(size, use_bias=False, name=f"{name}_straight")(straight)  # [b, size]
    return layers.Add(name=name)([memory, linear])  # [b, size]


def _conv(recipe: AnomalyRecipe, window: keras.KerasTensor) -> keras.Model:
    """Half the steps and half again, with as many channels as make `code` numbers, and back.

    Twice the channels and half the steps are the same numbers: the way back is a `Reshape`, as `UpSampling1D` becomes
    dozens of operators.
    """
    length, features, units = recipe.view.window.length, len(recipe.view.features), recipe.units
    if length % _FOLD or recipe.code % (quarter := length // _FOLD):
        raise TrainingError(
            f"{recipe.name}: {length} steps, {recipe.code} numbers: there must be as many in each {_FOLD} steps"
        )
    x = layers.Conv1D(units, 5, 2, "same", activation="relu", name="halved")(window)  # [b, L / 2, units]
    x = layers.Conv1D(recipe.code // quarter, 5, 2, "same", activation="relu", name="code")(
        x
    )  # [b, L / 4, code / (L / 4)]
    x = layers.Conv1D(2 * units, 5, 1, "same", activation="relu", name="doubled")(x)  # [b, L / 4, 2 * units]
    x = layers.Reshape((length // 2, units), name="unfolded")(x)  # [b, L / 2, units]
    x = layers.Conv1D(2 * features, 5, 1, "same", name="written")(x)  # [b, L / 2, 2 * F]
    return keras.Model(window, layers.Reshape((length, features), name="again")(x), name="core")  # [b, L, F]
