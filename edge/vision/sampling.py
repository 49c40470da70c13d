"""Pictures for a model of this camera's scene to be trained on: taken in its quiet hours, while nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2

from edge.vision.hours import is_within
from edge.vision.scene import blanked, thumb_of
from edge.vision.tamper import Tamper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge.vision.motion import AreaMotion
    from edge.vision.picture import Grey
    from edge.vision.settings import LearnSettings, Polygon

# At this one JPEG changes a picture by less than a tenth of a grey level squared, a twentieth of the sensor's noise.
_QUALITY: Final = 100


class Sampler:
    """Takes a sample every so often."""

    def __init__(self, settings: LearnSettings, masks: Sequence[Polygon] = ()) -> None:
        self._settings = settings
        self._masks = masks
        self._taken_s: float | None = None
        self._is_quiet = False
        self.is_over = False
        """Whether the agent has all that it wanted."""

    def note(self, motion: Mapping[str, AreaMotion] | None, tamper: Tamper) -> None:
        """What was seen in the picture that is looked at next."""
        is_still = motion is not None and not any(area.active for area in motion.values())
        self._is_quiet = tamper is Tamper.NONE and (is_still or self._settings.while_motion)

    def look(self, grey: Grey, at_s: float, utc_s: float) -> bytes | None:
        """The sample, a JPEG of 96 x 96 with the masks' places blank; None where this is not the time for one."""
        settings = self._settings
        is_due = self._taken_s is None or at_s - self._taken_s >= settings.every_s
        if self.is_over or not is_due or not self._is_quiet:
            return None
        if not is_within(utc_s, settings.begin_s, settings.span_s):
            return None
        self._taken_s = at_s
        thumb = blanked(thumb_of(grey), self._masks)
        _, encoded = cv2.imencode(".jpg", thumb.astype("uint8"), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        return encoded.tobytes()
