"""What a picture's error says, and the scores that need no training of a net: to be better than. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from contract.scene import FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.scene.samples import Pictures, Times

    Floats: TypeAlias = NDArray[np.float32]

# As in the camera's process, which this baseline is run in.
_LEARN_S: Final = 120.0
_REMEMBERED: Final = 300
_NEEDED: Final = 20
# A grey level squared: what a pixel that never changes is allowed.
_LEAST_VARIANCE: Final = 1.0


def score_of(errors: Floats, usual: float) -> Floats:
    """How unusual errors are: by the contract, [n]."""
    return np.asarray(np.abs(np.log((errors + FLOOR) / (usual + FLOOR))), np.float32)


def mean_background(pictures: Pictures, at_ms: Times) -> Floats:
    """The device's baseline: the error against the slow mean, held against the median of the errors before, [n].

    0 while there is nothing to compare with.
    """
    scores, errors = np.zeros(len(pictures), np.float32), np.full(len(pictures), np.nan)
    mean = pictures[0].astype(np.float32)  # [96, 96]
    for n in range(1, len(pictures)):
        picture = pictures[n].astype(np.float32)
        errors[n] = np.square(picture - mean).mean()
        before = errors[max(1, n - _REMEMBERED) : n]
        if len(before) >= _NEEDED:
            scores[n] = abs(math.log((errors[n] + FLOOR) / (float(np.median(before)) + FLOOR)))
        share = max(1 / (n + 1), 1 - math.exp(-(at_ms[n] - at_ms[n - 1]) / 1000 / _LEARN_S))
        mean += np.float32(share) * (picture - mean)
    return scores


class PixelStatistics:
    """Each pixel's own mean and deviation: a picture's error is the mean square of what is beyond them."""

    def __init__(self, learnt: Pictures, held: Pictures) -> None:
        self._mean = learnt.mean(axis=0, dtype=np.float64).astype(np.float32)  # [96, 96]
        self._variance = learnt.var(axis=0, dtype=np.float64).astype(np.float32) + np.float32(_LEAST_VARIANCE)
        self._usual = float(np.median(self._errors(held)))

    def scores(self, pictures: Pictures) -> Floats:
        """Two-sided, [n]."""
        return np.asarray(np.abs(np.log((self._errors(pictures) + 1e-3) / (self._usual + 1e-3))), np.float32)

    def _errors(self, pictures: Pictures) -> Floats:
        return np.array([(np.square(each - self._mean) / self._variance).mean() for each in pictures], np.float32)


class Light:
    """Brightness and contrast alone: how many deviations the farther of the two is from its mean."""

    def __init__(self, learnt: Pictures) -> None:
        found = _light(learnt)
        self._mean, self._deviation = found.mean(axis=0), np.maximum(found.std(axis=0), 0.1)

    def scores(self, pictures: Pictures) -> Floats:
        """In deviations, [n]."""
        return np.asarray(np.abs((_light(pictures) - self._mean) / self._deviation).max(axis=1), np.float32)


def _light(pictures: Pictures) -> Floats:
    """[n, 2]."""
    return np.array([(each.mean(), each.std()) for each in pictures], np.float32)
