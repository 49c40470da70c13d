"""What models on devices have told, as an agent's readings have it, into the rows that models here give. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from contract.manifest import ANOMALY, CONTRIBUTION, SCORE
from contract.sparkplug import Quality
from stream.forecasting.tables import Forecast, Forecaster

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from stream.forecasting.readings import Read, Times

# From when to when an alarm was on, ms; None: it still is.
Spell: TypeAlias = tuple[int, int | None]

# The metrics of results, as PostgreSQL takes it.
RESULTS: Final = rf"^({SCORE}|{ANOMALY}|{CONTRIBUTION}/.+|.+/[0-9.]+s/p[0-9.]+)$"
_FORECAST: Final = re.compile(r"(?P<target>.+)/(?P<horizon_s>[0-9]+(?:\.[0-9]+)?)s/p(?P<percent>[0-9]+(?:\.[0-9]+)?)")
_UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Results:
    """The series of a device of results: by metric, and that of the model's version, None where it tells none."""

    metrics: Mapping[str, int]
    version: int | None

    @property
    def marker(self) -> str | None:
        """The metric that has a reading with every result: what is counted to see whether any came late."""
        found = (metric for metric in sorted(self.metrics) if metric == SCORE or _FORECAST.fullmatch(metric))
        return next(found, None)


class Fan(NamedTuple):
    """What quantiles are of."""

    target: str
    horizon_ms: int


def fan_of(metric: str) -> tuple[Fan, float] | None:
    """Of what a metric is a quantile, and which; None for one that is of no forecast."""
    if (match := _FORECAST.fullmatch(metric)) is None:
        return None
    horizon_ms, level = round(float(match["horizon_s"]) * 1000), round(float(match["percent"]) / 100, 9)
    return (Fan(match["target"], horizon_ms), level) if horizon_ms > 0 and 0 < level < 1 else None


class Versions(NamedTuple):
    """Which version a device has told when: `at_ms` int64 [n], rising."""

    at_ms: Times
    names: Sequence[str]

    def at(self, ms: int) -> str:
        """That of a result of this time."""
        place = int(np.searchsorted(self.at_ms, ms, side="right")) - 1
        return self.names[max(place, 0)] if self.names else _UNKNOWN


def forecasts(
    who: Mapping[str, Forecaster], results: Results, readings: Read, versions: Versions
) -> Iterator[Forecast]:
    """Each result of which all quantiles came; `who` has the forecaster of each target that is known."""
    for (target, horizon_ms), series in _fans(results).items():
        if target not in who:
            continue
        levels = tuple(sorted(series))
        at_ms, values = _together(readings, [series[level] for level in levels])
        for made_ms, quantiles in zip(at_ms.tolist(), values.tolist(), strict=True):
            forecaster = who[target]._replace(version=versions.at(made_ms))
            yield Forecast(forecaster, made_ms, horizon_ms, levels, tuple(quantiles))


def spells(at_ms: Times, is_on: Sequence[bool]) -> list[Spell]:
    """From when to when it was on, by what was told at these times, which rise; None: it still is."""
    found: list[Spell] = []
    began: int | None = None
    for ms, on in zip(at_ms.tolist(), is_on, strict=True):
        if on and began is None:
            began = ms
        elif not on and began is not None:
            found.append((began, ms))
            began = None
    return found if began is None else [*found, (began, None)]


def alarms(results: Results, readings: Read) -> list[Spell]:
    """When the device's alarm was on; what has no value says nothing."""
    at_ms, values = _good(readings, results.metrics[ANOMALY])
    return spells(at_ms, [value != 0 for value in values.tolist()])


def peak_of(spell: Spell, results: Results, readings: Read) -> tuple[int, float] | None:
    """When its score was greatest, and that; None where no score came."""
    at_ms, scores = _good(readings, results.metrics[SCORE])
    first, last = np.searchsorted(at_ms, [spell[0], np.iinfo(np.int64).max if spell[1] is None else spell[1]])
    if first == last:
        return None
    peak = int(first + np.argmax(scores[first:last]))
    return int(at_ms[peak]), float(scores[peak])


def shares_at(results: Results, readings: Read, at_ms: int) -> list[tuple[str, float]]:
    """The features that contributed most to a score of then, the most first."""
    shares: list[tuple[str, float]] = []
    for metric, series in results.metrics.items():
        if metric.startswith(f"{CONTRIBUTION}/"):
            times, values = _good(readings, series)
            place = int(np.searchsorted(times, at_ms))
            if place < len(times) and times[place] == at_ms:
                shares.append((metric.removeprefix(f"{CONTRIBUTION}/"), float(values[place])))
    return shares


def _fans(results: Results) -> dict[Fan, dict[float, int]]:
    """The series of each quantile of each fan."""
    found: dict[Fan, dict[float, int]] = {}
    for metric, series in results.metrics.items():
        if (parsed := fan_of(metric)) is not None:
            fan, level = parsed
            found.setdefault(fan, {})[level] = series
    return found


def _together(readings: Read, series: Sequence[int]) -> tuple[Times, NDArray[np.float64]]:
    """The times at which each of them has a good reading, and these [times, series]."""
    columns = [_good(readings, each) for each in series]
    at_ms = columns[0][0]
    for times, _ in columns[1:]:
        at_ms = np.intersect1d(at_ms, times, assume_unique=True)
    return at_ms, np.stack([values[np.searchsorted(times, at_ms)] for times, values in columns], axis=1)


def _good(readings: Read, series: int) -> tuple[Times, NDArray[np.float64]]:
    span = readings.of(series)
    is_good = (readings.quality[span] == Quality.GOOD) & np.isfinite(readings.value[span])
    return readings.at_ms[span][is_good], readings.value[span][is_good]
