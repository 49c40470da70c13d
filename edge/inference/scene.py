"""A camera's model, loaded and run. The rules are the manifest's (contract/scene.py)."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge.inference.loading import fastest
from edge.inference.runtime import Net, NetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge.inference.settings import SceneSettings

_LEVELS: Final = 255
_TRIALS: Final = 10


@dataclass(frozen=True, slots=True)
class LoadedScene:
    """A model that gave a good picture for some that were made up; `us` is each form's median time."""

    settings: SceneSettings
    net: Net
    form: str
    us: dict[str, float]

    def error(self, thumb: NDArray[np.float32]) -> float:
        """How badly it explains a picture [side, side] of grey levels: mean square; raises NetError."""
        return _error(self.net, thumb)


def load_scene(settings: SceneSettings) -> LoadedScene:
    """The model in that of its forms which is fastest here; raises NetError where none can be used."""
    net, form, us = fastest(settings.directory, settings.forms, lambda net: _try(net, settings.side))
    return LoadedScene(settings, net, form, us)


def _try(net: Net, side: int) -> float:
    """The median time of a grey picture and of noise, us; raises NetError."""
    shape = (1, side, side, 1)
    for what, found in (("takes", net.input_shape), ("gives", net.output_shape)):
        if found != shape:
            raise NetError(f"{what} {_shown(found)}, the manifest says {_shown(shape)}")
    noise = np.random.default_rng(0).uniform(0, _LEVELS, (side, side)).astype(np.float32)
    taken_us: list[float] = []
    for n in range(_TRIALS):
        before_ns = time.perf_counter_ns()
        _error(net, noise if n % 2 else np.full_like(noise, _LEVELS / 2))
        taken_us.append((time.perf_counter_ns() - before_ns) / 1000)
    return statistics.median(taken_us)


def _error(net: Net, thumb: NDArray[np.float32]) -> float:
    given = (thumb / np.float32(_LEVELS))[None, :, :, None]  # [1, side, side, 1]
    # What overflows is not finite, and found by that.
    with np.errstate(all="ignore"):
        error = float(np.square(net.run(given) - given, dtype=np.float64).mean()) * _LEVELS**2
    if not math.isfinite(error):
        raise NetError("its picture has numbers that are not finite")
    return error


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
