"""Which frames of a camera are kept, and what is measured of them. Loaded in the camera's process only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Grey = NDArray[np.uint8]  # (height, width)

_CHANGED: Final = 25  # grey levels from which a pixel counts as changed
_SHRINK: Final = 0.25
_BLUR: Final = (5, 5)
_EARLIEST_S: Final = 946_684_800  # 2000-01-01
_LATEST_S: Final = 4_102_444_800  # 2100-01-01


class FrameFault(Exception):  # noqa: N818 - of the camera, told to the agent as a line of text
    """A frame that cannot be measured."""


class Slots:
    """Which frames of one connection are kept: the first of each slot floor(time / interval)."""

    def __init__(self, interval_s: float) -> None:
        self._interval_ms = interval_s * 1000
        self._last: int | None = None

    def takes(self, time_ms: float) -> bool:
        """Whether the frame of this time is the first of its slot."""
        slot = math.floor(time_ms / self._interval_ms)
        is_new, self._last = slot != self._last, slot
        return is_new


class Meter:
    """Measures frames, each against the one before it."""

    def __init__(self) -> None:
        self._before: Grey | None = None

    def measure(self, grey: Grey) -> dict[str, float]:
        """Brightness (mean grey level), sharpness (variance of the Laplacian), motion (fraction of changed pixels).

        The first frame, and the first of another size, has no motion.
        """
        values = {
            "brightness": float(grey.mean(dtype=np.float64)),
            # In 16 bits, which hold it exactly: in 64, a camera of 12 megapixels would take 200 MB for a moment.
            "sharpness": float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0]) ** 2,
        }
        small = cv2.resize(grey, None, fx=_SHRINK, fy=_SHRINK, interpolation=cv2.INTER_AREA)
        now = np.asarray(cv2.GaussianBlur(small, _BLUR, 0), dtype=np.uint8)
        if self._before is not None and self._before.shape == now.shape:
            values["motion"] = float((cv2.absdiff(now, self._before) > _CHANGED).mean(dtype=np.float64))
        self._before = now
        return values


def decode_jpeg(body: bytes) -> Grey:
    """The grey image in a JPEG; raises FrameFault, also for one that is cut off, which OpenCV would fill up."""
    if not body.startswith(b"\xff\xd8") or not body.rstrip(b"\0\r\n ").endswith(b"\xff\xd9"):
        raise FrameFault(f"a part of {len(body)} bytes is not a whole JPEG")
    try:
        grey = cv2.imdecode(np.frombuffer(body, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as exc:
        raise FrameFault(f"a JPEG of {len(body)} bytes cannot be decoded: {exc.err}") from exc
    if grey is None:
        raise FrameFault(f"a JPEG of {len(body)} bytes cannot be decoded")
    return np.asarray(grey, dtype=np.uint8)


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
