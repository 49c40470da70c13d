"""The forecast net: a window goes in, quantiles of what comes go out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from models.training.tensorflow import keras, tf

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.recipe import ForecastRecipe
    from models.scaler import Scaler


def forecast_core(recipe: ForecastRecipe, batch: int | None = None) -> keras.Model:
    """What is trained, and converted with a batch of 1: scaled features in, scaled targets out, flat."""
    size = math.prod(output_shape(recipe))
    window = keras.Input((recipe.view.window.length, len(recipe.view.features)), batch_size=batch)  # [b, L, F]
    state = keras.layers.LSTM(recipe.units, name="memory")(window)  # [b, units]: after the newest step
    average = keras.layers.GlobalAveragePooling1D(name="average")(window)  # [b, F]: slow for an LSTM to learn
    # Of zeros, so that an untrained net tells the same of every window: its bias. Two that are added, rather than one
    # of both side by side, which would have the coarser steps of the two in int8.
    told = keras.layers.Dense(size, kernel_initializer="zeros", name="quantiles")(state)  # [b, T * H * Q]
    level = keras.layers.Dense(size, kernel_initializer="zeros", use_bias=False, name="level")(average)
    told = keras.layers.Add(name="told")([told, level])  # [b, T * H * Q]
    return keras.Model(window, told, name="core")


def forecast_model(recipe: ForecastRecipe, core: keras.Model, scaler: Scaler) -> keras.Model:
    """The core with its scaling: features as they are in, targets [b, T, H, Q] as they are out."""
    features = keras.Input((recipe.view.window.length, len(recipe.view.features)), name="features")  # [b, L, F]
    window = _scaling(scaler.feature_mean, scaler.feature_scale, name="scaled")(features)  # [b, L, F]
    told = keras.layers.Reshape(output_shape(recipe), name="shaped")(core(window))  # [b, T, H, Q]
    unscaled = _scaling(scaler.target_mean, scaler.target_scale, axis=1, invert=True, name="unscaled")
    return keras.Model(features, unscaled(told), name="forecast")  # [b, T, H, Q]


def output_shape(recipe: ForecastRecipe) -> tuple[int, int, int]:
    """Targets, horizons, quantiles."""
    return len(recipe.targets), len(recipe.horizons), len(recipe.quantiles)


def pinball(quantiles: tuple[float, ...]) -> Callable[[Any, Any], Any]:
    """The loss whose least expected value is at the quantiles (Koenker and Bassett 1978), mean over everything."""
    shares = tf.constant(quantiles, tf.float32)  # [Q]

    def loss(truth: tf.Tensor, told: tf.Tensor) -> tf.Tensor:
        wanted = tf.reshape(truth, (tf.shape(truth)[0], -1, 1))  # [b, T * H, 1]
        error = wanted - tf.reshape(told, (tf.shape(told)[0], -1, len(quantiles)))  # [b, T * H, Q]
        return tf.reduce_mean(tf.maximum(shares * error, (shares - 1) * error))  # []

    return loss


def _scaling(mean: Any, scale: Any, **how: Any) -> keras.layers.Layer:  # noqa: ANN401 - Keras is untyped
    return keras.layers.Normalization(mean=mean.tolist(), variance=(scale**2).tolist(), **how)
