"""Incidents made up of a camera's own pictures: a camera that nobody has been at has no others to be judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from contract.scene import SIDE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

    from models.scene.samples import Pictures

_COVERED_LEVEL: Final = 9
_SMOKE_LEVEL: Final = 168


def made_up(pictures: Pictures, seed: int) -> dict[str, Pictures]:
    """Of each kind the pictures [n, 96, 96], as they would be with it."""
    rng = np.random.default_rng(seed)
    return {kind: np.stack([make(each, rng) for each in pictures]) for kind, make in _KINDS.items()}


def _covered(picture: Pictures, _: Generator) -> Pictures:
    return np.asarray(cv2.convertScaleAbs(cv2.blur(picture, (9, 9)), alpha=0.04, beta=_COVERED_LEVEL), np.uint8)


def _dark(picture: Pictures, _: Generator) -> Pictures:
    return np.asarray(cv2.convertScaleAbs(picture, alpha=0.3), np.uint8)


def _defocused(picture: Pictures, _: Generator) -> Pictures:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 2.0), np.uint8)


def _moved(picture: Pictures, rng: Generator) -> Pictures:
    right, down = (int(rng.choice((-1, 1))) * int(rng.integers(4, 16)) for _ in range(2))
    return np.roll(picture, (down, right), axis=(0, 1))


def _thing(picture: Pictures, rng: Generator) -> Pictures:
    """Something that was not there: 4 to 9 % of the picture, 40 grey levels from what it hides."""
    shown = picture.copy()
    wide, tall = (int(rng.integers(SIDE // 5, 3 * SIDE // 10)) for _ in range(2))
    left, top = int(rng.integers(SIDE - wide)), int(rng.integers(SIDE - tall))
    hidden = float(shown[top : top + tall, left : left + wide].mean())
    level = hidden + 40 if hidden < 128 else hidden - 40  # noqa: PLR2004 - half of the grey levels
    shown[top : top + tall, left : left + wide] = round(level)
    return shown


def _smoke(picture: Pictures, rng: Generator) -> Pictures:
    """A cloud over a part of the picture."""
    down, right = np.mgrid[:SIDE, :SIDE] / SIDE
    x, y = rng.uniform(0.2, 0.8, 2)
    opacity = 0.7 * np.exp(-(((right - x) / 0.25) ** 2) - ((down - y) / 0.25) ** 2)
    return np.asarray(picture * (1 - opacity) + _SMOKE_LEVEL * opacity, np.uint8)


_KINDS: Final[dict[str, Callable[[Pictures, Generator], Pictures]]] = {
    "covered": _covered,
    "dark": _dark,
    "defocused": _defocused,
    "moved": _moved,
    "something there": _thing,
    "smoke": _smoke,
}
