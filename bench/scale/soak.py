"""Memory over a long run at steady load: how much a part grows in an hour, and whether that is nothing."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench.fleet import Fleet
from bench.scale.system import Load, System

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

WATCHED: Final = ("bridge", "driver", "jvm", "workers")
# What is alive in the JVM's heap after a collection, once a minute.
LIVE_HEAP: Final = "live heap"
# All of the heap counts from the start: which part of it was ever touched says nothing of what is held.
_WHOLE_HEAP: Final = {"JDK_JAVA_OPTIONS": "-XX:+AlwaysPreTouch"}
_SAMPLE_EVERY_S: Final = 5.0
_SAMPLES_A_COLLECTION: Final = 12
# Before that code is still being compiled, and pools and caches filled.
WARM_MINUTES: Final = 15.0
# Less than this share of the memory in an hour is called flat, whatever its error.
_FLAT_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Slope:
    """MiB in an hour, with its standard error; `mean_mib` is what it grows from."""

    mib_per_h: float
    error: float
    mean_mib: float

    @property
    def flat(self) -> bool:
        """Whether no growth is seen: within twice its error, or below a hundredth of the memory in an hour."""
        return self.mib_per_h < max(2 * self.error, _FLAT_SHARE * self.mean_mib)


def soak(minutes: float, rate: float, stream: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """For each part an array [samples, 3]: hours, PSS and RSS in MiB; a thousand series of ten nodes.

    The warm-up comes before and is in it, with hours below 0.
    Of the live heap both are the same: what is left of it after a collection.
    """
    load = Load(Fleet(10, 100, 10), rate)
    with (
        tempfile.TemporaryDirectory(prefix="bench-soak-") as scratch,
        System(Path(scratch), stream, _WHOLE_HEAP) as system,
    ):
        system.publish(load, (WARM_MINUTES + minutes) * 60 + 600)
        system.await_stored(1)
        began_s = time.monotonic() + WARM_MINUTES * 60
        samples: dict[str, list[tuple[float, float, float]]] = {part: [] for part in (*WATCHED, LIVE_HEAP)}
        while (passed_s := time.monotonic() - began_s) < minutes * 60:
            costs = system.costs()
            for part in WATCHED:
                samples[part].append((passed_s / 3600, costs[part].pss_mib, costs[part].rss_mib))
            if len(samples["jvm"]) % _SAMPLES_A_COLLECTION == 0:
                live_mib = system.live_heap_mib()
                samples[LIVE_HEAP].append((passed_s / 3600, live_mib, live_mib))
            time.sleep(_SAMPLE_EVERY_S)
        return {part: np.array(found) for part, found in samples.items()}


def slope(hours: NDArray[np.float64], mib: NDArray[np.float64]) -> Slope:
    """Least squares over what comes after the warm-up (hours from 0 on), both [samples].

    Neighbouring samples are alike, so the error counts fewer of them: n (1 - r) / (1 + r), r the residuals' correlation
    with their predecessors (Bayley and Hammersley 1946, for r that falls off geometrically).
    """
    warm = hours >= 0
    x, y = hours[warm], mib[warm]
    centred = x - x.mean()
    spread = float(centred @ centred)
    rise = float(centred @ y) / spread
    residuals = y - y.mean() - rise * centred
    power = float(residuals @ residuals)
    r = min(max(float(residuals[1:] @ residuals[:-1]) / power, 0.0), 0.99) if power else 0.0
    effective = max(3.0, len(x) * (1 - r) / (1 + r))
    error = math.sqrt(power / spread * len(x) / effective / max(1, len(x) - 2))
    return Slope(rise, error, float(y.mean()))
