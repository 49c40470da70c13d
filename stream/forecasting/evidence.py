"""The readings that made an incident so. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stream.forecasting.readings import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contract.manifest import Manifest
    from stream.forecasting.readings import Read

_MOST: Final = 5


def evidence(
    manifest: Manifest,
    series: Mapping[str, int],
    readings: Read,
    end_ms: int,
    score: float,
    shares: Iterable[tuple[str, float]],
) -> list[dict[str, Any]]:
    """The newest readings, at a window's end, of the features that contribute most to its score, the most first.

    `shares` are the features' shares of the score. A feature that is of several inputs, or computed from one, is named
    beside its metric.
    """
    sources = {each.name: each.source for each in manifest.inputs}
    features = {each.name: each for each in manifest.features}
    found: list[dict[str, Any]] = []
    for name, share in sorted(shares, key=lambda each: (-each[1], each[0]))[:_MOST]:
        if name not in features:
            continue
        feature = features[name]
        for source in dict.fromkeys(sources[each] for each in feature.of):
            at_ms, value = _newest(readings, series[source], end_ms)
            found.append(
                {
                    "metric": source if feature.transform == "value" else f"{source} ({name})",
                    "at": text_of(at_ms),
                    "value": value,
                    "expected": None,
                    "score": round(share * score, 6),
                }
            )
    return found


def _newest(readings: Read, series: int, end_ms: int) -> tuple[int, float | None]:
    """When it was sampled, and the value; the end itself and None where there is none."""
    span = readings.of(series)
    place = span.start + int(np.searchsorted(readings.at_ms[span], end_ms)) - 1
    if place < span.start or not np.isfinite(readings.value[place]):
        return end_ms, None
    return int(readings.at_ms[place]), float(readings.value[place])
