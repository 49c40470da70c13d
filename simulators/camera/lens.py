"""What a camera makes of the yard when the light goes, or when somebody has been at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import cv2
import numpy as np

from simulators.camera.incidents import IncidentKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Picture: TypeAlias = "NDArray[np.uint8]"

_COVERED_GREY: Final = 9
_DEFOCUS: Final = 0.02
_MOVED: Final = (0.16, 0.06)
_MOVED_DEGREES: Final = 3.0
_LIGHTS_LEFT: Final = 0.3
_LIGHTS_OUT_S: Final = 2.0


def through_lens(picture: Picture, at_s: float, starts_s: Mapping[IncidentKind, float]) -> Picture:
    """The picture, given the incidents under way and when they began; the sensor's noise is still to come."""
    if IncidentKind.LIGHTS_OUT in starts_s:
        out = min(1.0, (at_s - starts_s[IncidentKind.LIGHTS_OUT]) / _LIGHTS_OUT_S)
        picture = _pixels(cv2.convertScaleAbs(picture, alpha=1 - out * (1 - _LIGHTS_LEFT)))
    if IncidentKind.CAMERA_MOVED in starts_s:
        picture = _turned(picture)
    if IncidentKind.LENS_DEFOCUSED in starts_s:
        picture = _pixels(cv2.GaussianBlur(picture, (0, 0), _DEFOCUS * picture.shape[1]))
    if IncidentKind.LENS_COVERED in starts_s:
        picture = _pixels(cv2.convertScaleAbs(cv2.blur(picture, (31, 31)), alpha=0.04, beta=_COVERED_GREY))
    return picture


def _turned(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    turn = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), _MOVED_DEGREES, 1.0), np.float64)
    turn[:, 2] += (_MOVED[0] * width, _MOVED[1] * height)
    return _pixels(cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT))


def _pixels(array: Any) -> Picture:  # noqa: ANN401 - OpenCV's stubs give any numeric array
    """Tell the type checker what OpenCV makes of uint8: uint8."""
    picture: Picture = array
    return picture
