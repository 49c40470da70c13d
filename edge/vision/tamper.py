"""Tampering with a camera: covered, blurred, moved, frozen. Pure, on small grey pictures.

Each picture is held against a slowly learned reference. What is compared are deviations from the mean level: coarse
ones (the light's shape) and fine ones (edges), each by projection on those of the reference, so that neither the
sensor's noise, which resembles no reference, nor a change of the light, which scales both alike, looks like tampering.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from edge.vision.hold import Held
from edge.vision.picture import inside, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edge.vision.picture import Grey, Mask
    from edge.vision.settings import Polygon, TamperSettings

    View = NDArray[np.float32]

_WIDTH: Final = 160
_COARSE_SIGMA: Final = 4.0
_LEARN_S: Final = 60.0
_LEARNED_FRAMES: Final = 5
_FLAT_LEVELS: Final = 2.0  # a reference without more contrast than this proves nothing

# What they are was chosen on the simulated yard (tests/edge/vision): see docs/sources/camera.md.
_COVERED_CONTRAST: Final = 0.15
_VEILED_CONTRAST: Final = 0.4
_SAME_SHAPE: Final = 0.5
_EDGES_LEFT: Final = 0.4
_SAME_EDGES: Final = 0.3
_OTHER_EDGES: Final = 0.15
_MUCH_DETAIL: Final = 1.6  # a crowd, or rain: more edges than there were
_DETAIL_LEFT: Final = 0.5
_SHIFT: Final = 0.015
_SHIFT_RESPONSE: Final = 0.08
_FROZEN_SHARE: Final = 0.05


class Tamper(StrEnum):
    """What is wrong with the camera."""

    NONE = "none"
    COVERED = "covered"
    BLURRED = "blurred"
    MOVED = "moved"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class Likeness:
    """How a picture resembles the reference; all are 1 for the same picture.

    `contrast` and `shape` are the size and the correlation of the coarse deviations, `edges` the size of the
    reference's edges in it, `same_edges` the correlation of its edges with them, `detail` the size of its own edges,
    whatever they are of; the last three without the noise, and relative to the change of the light.
    """

    contrast: float
    shape: float
    edges: float
    same_edges: float
    detail: float


class Reference:
    """The slow mean of the pictures of a camera that nobody has been at, and the power of its noise."""

    def __init__(self, view: View, valid: Mask) -> None:
        self._mean = view.copy()
        self._valid = valid
        self._noise = 0.0
        self._seen = 1

    @property
    def is_learned(self) -> bool:
        """Whether enough pictures went into it, and it shows something."""
        return self._seen >= _LEARNED_FRAMES and float(_coarse(self._mean, self._valid).std()) >= _FLAT_LEVELS

    @property
    def mean(self) -> View:
        """The picture that is expected."""
        return self._mean

    def learn(self, view: View, elapsed_s: float) -> None:
        """Take in a picture."""
        self._seen += 1
        share = max(1 / self._seen, 1 - math.exp(-elapsed_s / _LEARN_S)) if elapsed_s else 1 / self._seen
        expected, found = _fine(self._mean, self._valid), _fine(view, self._valid)
        power = float((found * found).mean())
        explained = float((found * expected).mean()) ** 2 / max(float((expected * expected).mean()), 1e-9)
        # What its edges do not explain of the picture's is noise, and whoever walks through.
        self._noise += share * (max(0.0, power - explained) - self._noise)
        self._mean += np.float32(share) * (view - self._mean)

    def likeness(self, view: View) -> Likeness:
        """How a picture resembles it."""
        coarse, coarse_now = _coarse(self._mean, self._valid), _coarse(view, self._valid)
        fine, fine_now = _fine(self._mean, self._valid), _fine(view, self._valid)
        contrast = float(coarse_now.std()) / max(float(coarse.std()), 1e-6)
        shape = _correlation(coarse, coarse_now)
        light = max(contrast, 1e-6)
        power = float((fine * fine).mean())
        common = float((fine * fine_now).mean())
        own = max(0.0, float((fine_now * fine_now).mean()) - self._noise)
        return Likeness(
            contrast=contrast,
            shape=shape,
            edges=common / max(power, 1e-9) / light,
            same_edges=common / max(math.sqrt(power * own), 1e-6) if own > 0 else 0.0,
            detail=math.sqrt(own / max(power, 1e-9)) / light,
        )

    def shift(self, view: View) -> float:
        """By what share of its width the view has shifted, 0 where no shift explains it."""
        if min(view.shape) <= 1:
            return 0.0  # a line has no window
        window = cv2.createHanningWindow((view.shape[1], view.shape[0]), cv2.CV_32F)
        fine, fine_now = _fine(self._mean, self._valid), _fine(view, self._valid)
        (x, y), response = cv2.phaseCorrelate(fine, fine_now, window)
        return math.hypot(x, y) / view.shape[1] if response >= _SHIFT_RESPONSE else 0.0


def kind_of(found: Likeness, shift: Callable[[], float]) -> Tamper:
    """What a picture's likeness to the reference says; `shift`, which takes time, is asked where it decides."""
    if found.edges * found.contrast >= _EDGES_LEFT:
        # Its edges are there as strong as ever: a lamp that was switched on or off changed all the rest.
        return Tamper.NONE
    if found.contrast < _COVERED_CONTRAST:
        return Tamper.COVERED
    if found.edges >= _EDGES_LEFT:
        return Tamper.NONE
    if found.detail < _DETAIL_LEFT:
        strange = found.shape < _SAME_SHAPE or found.contrast < _VEILED_CONTRAST
        return Tamper.COVERED if strange else Tamper.BLURRED
    is_turned = found.same_edges < _OTHER_EDGES and found.detail < _MUCH_DETAIL
    if is_turned or (found.same_edges < _SAME_EDGES and (found.shape < _SAME_SHAPE or shift() >= _SHIFT)):
        return Tamper.MOVED
    # Its own edges at the old places are weak, but nothing tells of another view: rain, headlights, a crowd.
    return Tamper.NONE


def _coarse(view: View, valid: Mask) -> View:
    smooth = np.asarray(cv2.GaussianBlur(view, (0, 0), _COARSE_SIGMA), dtype=np.float32)
    return np.asarray((smooth - smooth[valid].mean()) * valid, dtype=np.float32)


def _fine(view: View, valid: Mask) -> View:
    smooth = cv2.GaussianBlur(view, (3, 3), 0)
    return np.asarray(cv2.Laplacian(smooth, cv2.CV_32F) * valid, dtype=np.float32)


def _correlation(a: View, b: View) -> float:
    return float((a * b).mean()) / max(math.sqrt(float((a * a).mean()) * float((b * b).mean())), 1e-9)


class FreezeWatch:
    """Whether the same picture comes again and again, although the stream runs: a sensor always has some noise."""

    def __init__(self) -> None:
        self._before: View | None = None
        self._usual = 0.0

    def look(self, view: View, valid: Mask) -> bool:
        """Whether the picture is the one before, exactly or all but: a clock in it may run on."""
        before, self._before = self._before, view
        if before is None or before.shape != view.shape:
            return False
        difference = float(np.abs(view - before)[valid].mean())
        if difference <= _FROZEN_SHARE * self._usual or difference == 0:
            return True
        # A slow mean that is quick to fall: the quietest scene is what a frozen one must be quieter than.
        share = 0.5 if difference < self._usual else 0.02
        self._usual = difference if not self._usual else self._usual + share * (difference - self._usual)
        return False


class TamperWatch:
    """Looks at picture after picture, and says what is wrong once it has been so for long enough."""

    def __init__(self, settings: TamperSettings, masks: Sequence[Polygon] = ()) -> None:
        self._settings = settings
        self._masks = masks
        self._held: Held[Tamper] = Held(Tamper.NONE, settings.after_s, settings.clear_s)
        self._freeze = FreezeWatch()
        self._reference: Reference | None = None
        self._valid: Mask | None = None
        self._at_s = 0.0
        self._strange_since_s: float | None = None

    def look(self, grey: Grey, at_s: float) -> Tamper:
        """What is wrong as of this picture."""
        view = shrunk(grey, _WIDTH).astype(np.float32)
        if self._valid is None or self._valid.shape != view.shape:
            self._begin(view)
        assert self._valid is not None
        frozen = self._freeze.look(view, self._valid)
        seen = self._judge(view, at_s)
        self._at_s = at_s
        if frozen and seen is not Tamper.COVERED:  # darkness without noise is the same picture again and again
            return self._held.look(Tamper.FROZEN, at_s, self._settings.frozen_after_s)
        return self._held.look(seen, at_s)

    def _begin(self, view: View) -> None:
        valid = ~inside((view.shape[0], view.shape[1]), self._masks)
        self._valid = valid if valid.any() else np.ones_like(valid)
        self._reference = None

    def _judge(self, view: View, at_s: float) -> Tamper:
        assert self._valid is not None
        reference = self._reference
        if reference is None:
            self._reference = Reference(view, self._valid)
            return Tamper.NONE
        found = reference.likeness(view) if reference.is_learned else None
        seen = Tamper.NONE if found is None else kind_of(found, lambda: reference.shift(view))
        if seen is Tamper.NONE:
            self._strange_since_s = None
            reference.learn(view, max(0.0, at_s - self._at_s))
        elif self._strange_since_s is None:
            self._strange_since_s = at_s
        elif at_s - self._strange_since_s >= self._settings.relearn_s:
            # It will not be put right: what is seen now is the view from now on.
            self._reference, self._strange_since_s = None, None
        return seen
