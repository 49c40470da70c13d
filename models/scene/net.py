"""The net: what is usual of a scene, drawn through a few numbers, and how far a picture is from it.

A pixel is seen as deviations from its own mean; so light that changes all of them alike takes one of the few numbers,
and what is left over is compared with what is usually left over at that pixel. A road on which there is always
something weighs little, and a wall that has never changed much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from contract.scene import SIDE
from models.errors import TrainingError
from models.scene.scoring import score_of
from models.training.tensorflow import keras

if TYPE_CHECKING:
    from pathlib import Path

    from models.scene.samples import Pictures
    from models.scene.scoring import Floats

LEVELS: Final = 255
# Numbers that a picture is drawn through.
CODE: Final = 6
# Variance that a pixel has at least, in grey levels: the sensor's noise, and rounding.
_LEAST_SEEN: Final = 4.0
_LEAST_LEFT: Final = 1.0
# How many grey levels a usual deviation is drawn as: enough for the 255 of an int8 form to be fine for it.
_DRAWN: Final = 4.0
_BATCH: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Each pixel's mean and deviation, float32 [96, 96, 1], in grey levels."""

    mean: Floats
    deviation: Floats

    @classmethod
    def learnt(cls, pictures: Pictures) -> Self:
        """Of pictures [n, 96, 96]."""
        mean, variance = pictures.mean(axis=0, dtype=np.float64), pictures.var(axis=0, dtype=np.float64)
        return cls(*(each[..., None].astype(np.float32) for each in (mean, np.sqrt(variance + _LEAST_SEEN))))

    def seen(self, pictures: Pictures) -> Floats:
        """Pictures as deviations, [n, 96, 96, 1]."""
        return (pictures[..., None].astype(np.float32) - self.mean) / self.deviation


def inner() -> keras.Model:
    """Deviations [n, 96, 96, 1] through `CODE` numbers, and deviations again."""
    layers = keras.layers
    x = given = keras.Input((SIDE, SIDE, 1))
    for channels in (8, 12, 16, 8):  # 48, 24, 12, 6 pixels wide
        x = layers.LeakyReLU(0.2)(layers.Conv2D(channels, 3, 2, "same")(x))
    x = layers.Dense(CODE)(layers.Flatten()(x))  # [n, CODE]
    x = layers.Reshape((6, 6, 8))(layers.LeakyReLU(0.2)(layers.Dense(6 * 6 * 8)(x)))
    for channels in (16, 12, 8):  # 12, 24, 48
        x = layers.LeakyReLU(0.2)(layers.Conv2DTranspose(channels, 3, 2, "same")(x))
    return keras.Model(given, layers.Conv2DTranspose(1, 3, 2, "same")(x))  # [n, 96, 96, 1]


def whole(core: keras.Model, scale: Scale, learnt: Pictures) -> keras.Model:
    """The net as the contract has it: grey / 255 -> a picture, away from it by what is unusual, both [n, 96, 96, 1]."""
    layers = keras.layers
    left = core.predict(scale.seen(learnt), batch_size=_BATCH, verbose=0) - scale.seen(learnt)  # [n, 96, 96, 1]
    left = np.sqrt(np.square(left * scale.deviation).mean(axis=0, dtype=np.float64) + _LEAST_LEFT)  # [96, 96, 1]
    given = keras.Input((SIDE, SIDE, 1))
    seen = _by_pixel("seen", scale.mean / LEVELS, scale.deviation / LEVELS)(given)
    unusual = layers.Subtract()([core(seen), seen])
    drawn = _by_pixel("drawn", np.zeros_like(scale.mean), left / scale.deviation * (LEVELS / _DRAWN))(unusual)
    return keras.Model(given, layers.Add()([given, drawn]))


def _by_pixel(name: str, mean: Floats, deviation: Any) -> keras.layers.Layer:  # noqa: ANN401 - numpy's float64 or float32
    """(x - mean) / deviation, of arrays [96, 96, 1]."""
    layer = keras.layers.Normalization(axis=(1, 2, 3), name=name)
    layer.build((None, SIDE, SIDE, 1))
    layer.set_weights([mean, np.square(deviation), np.int64(0)])
    layer.finalize_state()
    return layer


@dataclass(frozen=True, slots=True, eq=False)
class SceneNet:
    """A trained net and the error of a usual picture."""

    model: keras.Model
    usual: float

    def errors(self, pictures: Pictures) -> Floats:
        """Mean square, in grey levels, of pictures [n, 96, 96]: [n]."""
        return errors_of(self.drawn(pictures), pictures)

    def scores(self, pictures: Pictures) -> Floats:
        """By the contract, [n]."""
        return score_of(self.errors(pictures), self.usual)

    def drawn(self, pictures: Pictures) -> Floats:
        """What it gives for pictures [n, 96, 96]: [n, 96, 96, 1] of grey / 255."""
        told = self.model.predict(given(pictures), batch_size=_BATCH, verbose=0)
        return np.asarray(told, np.float32)

    def save(self, path: Path) -> None:
        """As a .keras."""
        self.model.save(path)

    @classmethod
    def load(cls, path: Path, usual: float) -> Self:
        """What `save` wrote; raises TrainingError."""
        try:
            return cls(keras.models.load_model(path, compile=False), usual)
        except (OSError, ValueError) as exc:
            raise TrainingError(f"{path}: cannot be loaded: {str(exc).splitlines()[0]}") from exc


def given(pictures: Pictures) -> Floats:
    """Pictures as a model takes them: [n, 96, 96, 1], grey / 255."""
    return np.asarray(pictures[..., None], np.float32) / np.float32(LEVELS)


def errors_of(drawn: Floats, pictures: Pictures) -> Floats:
    """The error of each picture, [n]."""
    away = drawn.reshape(-1, SIDE, SIDE) - given(pictures)[..., 0]
    return np.asarray(np.square(away, dtype=np.float64).mean(axis=(1, 2)) * LEVELS**2, np.float32)
