"""How unusual the scene is: a score of how far the picture is from what a model expects, against what is usual.

The score is two-sided: darkness and defocus are *better* explained than the usual scene. A trained model scores in its
hours, and the baseline, which needs none, where there is no model or it fails.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import cv2
import numpy as np

from edge.vision.picture import inside
from edge.vision.trained import ModelFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge.vision.picture import Grey, Mask
    from edge.vision.settings import Polygon
    from edge.vision.trained import TrainedScene

    Thumb = NDArray[np.float32]

# These two are the contract's (contract/scene.py), whose import would be a third of this process's memory.
SIDE: Final = 96
BLANK: Final = 128
_LEARN_S: Final = 120.0
_REMEMBERED: Final = 300
_NEEDED: Final = 20
# A quarter of a grey level squared: below it lies rounding, not a scene.
_FLOOR: Final = 0.25


def thumb_of(grey: Grey) -> Thumb:
    """The picture as models see it: 96 x 96 grey levels."""
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.float32)


def blanked(thumb: Thumb, masks: Sequence[Polygon]) -> Thumb:
    """The thumbnail with nothing to be seen under the masks."""
    if not masks:
        return thumb
    return np.where(inside((SIDE, SIDE), masks), np.float32(BLANK), thumb)


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
        error = self._model.error(thumb_of(grey), at_s)
        if error is None:
            return None
        usual = float(np.median(self._errors)) if len(self._errors) >= _NEEDED else None
        self._errors.append(error)
        return None if usual is None else abs(math.log((error + _FLOOR) / (usual + _FLOOR)))


class SceneLook(NamedTuple):
    """How unusual a picture is; whether that is an anomaly is known to a trained model alone."""

    score: float | None
    is_anomaly: bool | None


class SceneWatch:
    """Looks at pictures by a trained model in its hours, else by the baseline, which always looks on."""

    def __init__(self, masks: Sequence[Polygon] = ()) -> None:
        self._masks = masks
        self._baseline = SceneScore(MeanBackground(masks))
        self._trained: TrainedScene | None = None
        self.state: str | None = None
        """Of the trained model: ok, resting outside of its hours, failing; None where there is none."""
        self.fault: str | None = None
        """Why it failed, of the last picture."""

    def use(self, trained: TrainedScene | None) -> None:
        """Goes by this model from now on."""
        self._trained, self.state, self.fault = trained, None, None

    def look(self, grey: Grey, at_s: float, utc_s: float) -> SceneLook:
        """How unusual a picture is."""
        score = self._baseline.look(grey, at_s)
        self.fault = None
        if self._trained is None:
            return SceneLook(score, None)
        try:
            verdict = self._trained.look(blanked(thumb_of(grey), self._masks), utc_s)
        except ModelFault as exc:
            self.state, self.fault = "failing", str(exc)
            return SceneLook(score, None)
        self.state = "resting" if verdict is None else "ok"
        return SceneLook(score, None) if verdict is None else SceneLook(*verdict)
