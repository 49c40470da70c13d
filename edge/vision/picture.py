"""Pictures: JPEG to grey, and what is measured of one alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edge.vision.settings import Polygon

Grey: TypeAlias = "NDArray[np.uint8]"
"""(height, width)"""
Colour: TypeAlias = "NDArray[np.uint8]"
"""(height, width, 3), BGR"""
Mask: TypeAlias = "NDArray[np.bool_]"

_EARLIEST_S: Final = 946_684_800  # 2000-01-01
_LATEST_S: Final = 4_102_444_800  # 2100-01-01


class FrameFault(Exception):  # noqa: N818 - of the camera, told to the agent as a line of text
    """A frame that cannot be used."""


def decode_jpeg(body: bytes) -> Grey:
    """The grey image in a JPEG; raises FrameFault, also for one that is cut off, which OpenCV would fill up."""
    return _decoded(body, cv2.IMREAD_GRAYSCALE)


def decode_colour(body: bytes) -> Colour:
    """The colour image in a JPEG; raises FrameFault."""
    return _decoded(body, cv2.IMREAD_COLOR)


def _decoded(body: bytes, how: int) -> NDArray[np.uint8]:
    if not body.startswith(b"\xff\xd8") or not body.rstrip(b"\0\r\n ").endswith(b"\xff\xd9"):
        raise FrameFault(f"a part of {len(body)} bytes is not a whole JPEG")
    try:
        image = cv2.imdecode(np.frombuffer(body, dtype=np.uint8), how)
    except cv2.error as exc:
        raise FrameFault(f"a JPEG of {len(body)} bytes cannot be decoded: {exc.err}") from exc
    if image is None:
        raise FrameFault(f"a JPEG of {len(body)} bytes cannot be decoded")
    return np.asarray(image, dtype=np.uint8)


def brightness(grey: Grey) -> float:
    """The mean grey level, 0 to 255."""
    return float(grey.mean(dtype=np.float64))


def sharpness(grey: Grey) -> float:
    """The variance of the Laplacian."""
    # In 16 bits, which hold it exactly: in 64, a camera of 12 megapixels would take 200 MB for a moment.
    return float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0]) ** 2


def shrunk(grey: Grey, max_width: int) -> Grey:
    """The picture at most so wide; each pixel is the mean of those that it stands for, so noise is less."""
    height, width = grey.shape
    if width <= max_width:
        return grey
    size = (max_width, max(1, round(height * max_width / width)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def inside(shape: tuple[int, int], polygons: Sequence[Polygon]) -> Mask:
    """Which pixels of a picture of this (height, width) lie in any of the polygons."""
    height, width = shape
    filled: NDArray[np.uint8] = np.zeros(shape, np.uint8)
    for polygon in polygons:
        corners = np.round(np.array(polygon) * (width - 1, height - 1)).astype(np.int32)
        cv2.fillPoly(filled, [corners], (1,))
    return filled.astype(np.bool_)


def timestamp_ms(headers: Mapping[str, str]) -> int | None:
    """The time in X-Timestamp (unix seconds), None where there is none; raises FrameFault for what is no such time."""
    text = headers.get("x-timestamp")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _EARLIEST_S <= seconds < _LATEST_S:
        raise FrameFault(f"X-Timestamp {text[:40]!r} is no time in unix seconds: is the camera's clock set?")
    return round(seconds * 1000)
