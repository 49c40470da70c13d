"""What a model tells: the metrics of its device, and the readings of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from contract.manifest import ANOMALY, SCORE, VERSION, AnomalyOutput, contribution_metric
from contract.sparkplug import Quality
from edge.lane import Lane
from edge.models.alarm import Hysteresis
from edge.reading import MetricInfo, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.datatypes import Value
    from contract.manifest import Manifest

STATE: Final = "model/state"
_AGAIN_MS: Final = 60_000

OF_EVERY_MODEL: Final = (
    MetricInfo(VERSION, DataType.STRING, None, "version of the model that gave the results beside it"),
    MetricInfo(STATE, DataType.STRING, None, "ok, or why there is no result"),
)


def metrics_of(manifest: Manifest) -> list[MetricInfo]:
    """What a model of this manifest tells, for its device's birth."""
    return [*OF_EVERY_MODEL, *_results(manifest)]


def _results(manifest: Manifest) -> list[MetricInfo]:
    """In the order of a result's numbers, and after them what is made of them."""
    model = f"{manifest.name} {manifest.version}"
    output = manifest.output
    if not isinstance(output, AnomalyOutput):
        count = len(output.horizons) * len(output.quantiles)
        units = [target.unit for target in output.targets for _ in range(count)]
        names = manifest.forecast_metrics
        return [
            MetricInfo(name, DataType.FLOAT, unit, f"forecast of {model}, made at its time")
            for name, unit in zip(names, units, strict=True)
        ]
    shares = [
        MetricInfo(contribution_metric(each.name), DataType.FLOAT, None, "its share of the score")
        for each in manifest.features
        if output.score == "reconstruction"
    ]
    score = f"how unusual the window is to {model}; above {output.threshold:.6g} is an anomaly"
    return [
        MetricInfo(SCORE, DataType.FLOAT, None, score),
        *shares,
        MetricInfo(ANOMALY, DataType.BOOLEAN, None, f"whether it is an anomaly to {model}", Lane.ALARM),
    ]


class Seldom:
    """What hardly changes is told when it does, and each minute for whoever came late."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[Value, int]] = {}

    def is_due(self, name: str, value: Value, at_ms: int) -> bool:
        """Whether to tell it; then it counts as told."""
        before, told_ms = self._told.get(name, (None, 0))
        if before == value and at_ms - told_ms < _AGAIN_MS:
            return False
        self._told[name] = value, at_ms
        return True

    def forget(self, name: str) -> None:
        """What was told of it is not so any more."""
        self._told.pop(name, None)


class Teller:
    """Makes the readings of one model's results; `before` is who told for it until now."""

    def __init__(self, manifest: Manifest, before: Teller | None = None) -> None:
        self._version = manifest.version
        self._numbers = [info for info in _results(manifest) if info.datatype is DataType.FLOAT]
        self._alarm: Hysteresis | None = None
        self._seldom = Seldom()
        if isinstance(output := manifest.output, AnomalyOutput):
            is_on = before is not None and before.is_alarmed
            clear = output.threshold if output.clear is None else output.clear
            self._alarm = Hysteresis(output.threshold, clear, is_on=is_on)

    @property
    def is_alarmed(self) -> bool:
        """Whether the last score was an anomaly."""
        return self._alarm is not None and self._alarm.is_on

    def result(self, numbers: Sequence[float], end_ms: int) -> list[Reading]:
        """A result, whose time is the end of its window."""
        readings = [Reading(VERSION, DataType.STRING, self._version, end_ms)]
        readings += [
            Reading(info.name, info.datatype, number, end_ms)
            for info, number in zip(self._numbers, numbers, strict=True)
        ]
        if self._alarm is not None:
            is_on = self._alarm.look(numbers[0])
            if self._seldom.is_due(ANOMALY, is_on, end_ms):
                readings.append(Reading(ANOMALY, DataType.BOOLEAN, is_on, end_ms))
        return readings

    def no_result(self, end_ms: int) -> list[Reading]:
        """That there is none any more: each metric without value, as for a source that fails."""
        missing = [(info.name, info.datatype) for info in self._numbers]
        if self._alarm is not None:
            self._seldom.forget(ANOMALY)
            missing.append((ANOMALY, DataType.BOOLEAN))
        return [Reading(name, datatype, None, end_ms, Quality.BAD) for name, datatype in missing]
