"""Motion: which pixels changed from one picture to the next, other than by the light. Pure, on small grey pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from edge.vision.hold import Held
from edge.vision.picture import inside, shrunk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge.vision.picture import Grey, Mask
    from edge.vision.settings import MotionSettings

    Levels = NDArray[np.float32]

_WIDTH: Final = 320
_BLUR: Final = (5, 5)
_FITTED_PIXELS: Final = 4096
_FIT_ROUNDS: Final = 3
_GAINS: Final = (0.1, 10.0)
# Of a normal distribution: its standard deviation by the median, and the first quartile by it, of absolute values.
_SIGMA: Final = 1.4826
_QUARTILE: Final = 0.3186
_NOISIEST: Final = 10.0  # grey levels
_NOISE_SIGMAS: Final = 5.0
_STILL_SHARE: Final = 0.5


def changed_pixels(before: Levels, now: Levels, valid: Mask, min_change: float) -> Mask:
    """Which pixels changed by `min_change` grey levels or more, once a change of all the light is taken away.

    Where the picture is noisy, more is asked of a pixel: five standard deviations of the difference.
    """
    difference = np.abs(now - _relit(before, now, valid))
    sample = _sampled(difference[valid])
    # By the quietest quarter, so that it is that of the sensor even while most of the picture moves.
    noise = min(float(np.percentile(sample, 25)) / _QUARTILE, _NOISIEST)
    changed: Mask = difference >= max(min_change, _NOISE_SIGMAS * noise)
    return changed & valid


def _relit(before: Levels, now: Levels, valid: Mask) -> Levels:
    """The picture before, in the light of now: gain and offset by least squares over the pixels that agree on them."""
    x, y = _sampled(before[valid]), _sampled(now[valid])
    gain, offset = 1.0, float(np.median(y - x))
    for _ in range(_FIT_ROUNDS):
        residual = np.abs(y - gain * x - offset)
        kept = residual <= 3 * _SIGMA * np.median(residual) + 1
        centre_x, centre_y = float(x[kept].mean()), float(y[kept].mean())
        deviation = x[kept] - centre_x
        variance = float((deviation * deviation).mean())
        # A flat picture says nothing of a gain.
        gain = float((deviation * (y[kept] - centre_y)).mean()) / variance if variance > 1 else 1.0
        gain = min(max(gain, _GAINS[0]), _GAINS[1])
        offset = centre_y - gain * centre_x
    return (gain * before + offset).astype(np.float32)


def _sampled(levels: Levels) -> Levels:
    return levels[:: max(1, levels.size // _FITTED_PIXELS)]


@dataclass(frozen=True, slots=True)
class AreaMotion:
    """The fraction of an area's pixels that changed, and whether it is in motion."""

    fraction: float
    active: bool


class MotionDetector:
    """Looks at picture after picture; the first, and the first of another size, has nothing to be compared with."""

    def __init__(self, settings: MotionSettings) -> None:
        self._settings = settings
        self._held = {name: Held(False, area.min_s, area.clear_s) for name, area in settings.areas.items()}  # noqa: FBT003 - the state it rests in
        self._before: Levels | None = None
        self._areas: dict[str, Mask] = {}
        self._valid: Mask | None = None

    def look(self, grey: Grey, at_s: float) -> dict[str, AreaMotion] | None:
        """The motion of each area since the picture before, by name."""
        now = np.asarray(cv2.GaussianBlur(shrunk(grey, _WIDTH), _BLUR, 0), dtype=np.float32)
        before, self._before = self._before, now
        if before is None or before.shape != now.shape:
            self._lay_out((now.shape[0], now.shape[1]))
            return None
        assert self._valid is not None
        changed = changed_pixels(before, now, self._valid, self._settings.min_change)
        return {name: self._area_motion(name, changed, at_s) for name in self._areas}

    def _lay_out(self, shape: tuple[int, int]) -> None:
        self._valid = ~inside(shape, self._settings.masks)
        if not self._valid.any():
            self._valid[:] = True
        self._areas = {
            name: self._valid if area.polygon is None else inside(shape, [area.polygon]) & self._valid
            for name, area in self._settings.areas.items()
        }

    def _area_motion(self, name: str, changed: Mask, at_s: float) -> AreaMotion:
        area, held = self._areas[name], self._held[name]
        fraction = float(np.count_nonzero(changed & area)) / max(1, int(np.count_nonzero(area)))
        least = self._settings.areas[name].min_fraction
        # Once in motion, an area rests only well below the fraction that set it off.
        return AreaMotion(fraction, held.look(fraction >= (_STILL_SHARE * least if held.state else least), at_s))


def active_areas(motion: Mapping[str, AreaMotion] | None) -> list[str]:
    """The names of the areas in motion."""
    return [name for name, area in (motion or {}).items() if area.active]
