"""How unusual the scene is: a score of how far the picture is from what a model expects, against what is usual.

The model is a seam: a trained one (an autoencoder on the TFLite runtime) takes the place of `MeanBackground` by having
the same `error`. The score is two-sided: darkness and defocus are *better* explained than the usual scene.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from edge.vision.picture import inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge.vision.picture import Grey, Mask
    from edge.vision.settings import Polygon

    Thumb = NDArray[np.float32]

SIDE: Final = 96
_LEARN_S: Final = 120.0
_REMEMBERED: Final = 300
_NEEDED: Final = 20
# A quarter of a grey level squared: below it lies rounding, not a scene.
_FLOOR: Final = 0.25


class SceneModel(Protocol):
    """What a picture should look like."""

    def error(self, thumb: Thumb, at_s: float) -> float | None:
        """How badly it explains a thumbnail (96 x 96 grey levels, float32), mean square; None while it learns."""
        ...


class MeanBackground:
    """The baseline, no trained model: the slow mean of the pictures themselves."""

    def __init__(self, masks: Sequence[Polygon] = (), learn_s: float = _LEARN_S) -> None:
        valid = ~inside((SIDE, SIDE), masks)
        self._valid: Mask = valid if valid.any() else np.ones((SIDE, SIDE), np.bool_)
        self._learn_s = learn_s
        self._mean: Thumb | None = None
        self._seen = 0
        self._at_s = 0.0

    def error(self, thumb: Thumb, at_s: float) -> float | None:
        """The mean square difference from the mean, into which the picture then goes."""
        before, elapsed_s = self._mean, at_s - self._at_s
        self._at_s = at_s
        self._seen += 1
        if before is None:
            self._mean = thumb.copy()
            return None
        error = float(np.square(thumb - before)[self._valid].mean())
        share = max(1 / self._seen, 1 - math.exp(-elapsed_s / self._learn_s))
        self._mean = before + np.float32(share) * (thumb - before)
        return error


class SceneScore:
    """|log(error / median of the errors before it)|: 0 is as usual, 0.7 a factor of two either way, 2.3 of ten."""

    def __init__(self, model: SceneModel) -> None:
        self._model = model
        self._errors: deque[float] = deque(maxlen=_REMEMBERED)

    def look(self, grey: Grey, at_s: float) -> float | None:
        """The score of a picture; None until there is something to compare it with."""
        thumb = np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.float32)
        error = self._model.error(thumb, at_s)
        if error is None:
            return None
        usual = float(np.median(self._errors)) if len(self._errors) >= _NEEDED else None
        self._errors.append(error)
        return None if usual is None else abs(math.log((error + _FLOOR) / (usual + _FLOOR)))
