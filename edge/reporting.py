"""Report by exception: of a metric that hardly changes, only what a trend line needs is reported.

A reading is reported when it leaves the deadband around the last one reported, when its quality or the kind of its
value changes, or when `max_silence_s` has passed. Before a change, the last reading that was held back is reported
too: a line drawn between reported points is then flat up to the change, and steep at it. Whoever lets each reported
value stand until the next has every reading that was held back within the deadband.
"""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Self, TypeGuard

from pydantic import Field, model_validator

from contract.config import Config
from edge.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from contract.datatypes import Value
    from edge.reading import MetricInfo, Reading

_MS_PER_S: Final = 1000


class ReportRule(Config):
    """What of some metrics is reported; without a deadband every change is."""

    metrics: str = Field(default="*", description="names of the metrics, with *, ? and [abc] as in a file name")
    deadband: float | None = Field(default=None, ge=0, description="change, in the metric's unit, that is not reported")
    deadband_percent: float | None = Field(
        default=None, ge=0, le=100, description="change, in percent of the value last reported, that is not reported"
    )
    max_silence_s: float = Field(
        default=300.0, gt=0, le=86_400, description="seconds after which a reading is reported even without a change"
    )

    @model_validator(mode="after")
    def _one_deadband(self) -> Self:
        if self.deadband is not None and self.deadband_percent is not None:
            raise ValueError("deadband and deadband_percent exclude each other")
        return self


class Reporter:
    """Holds back what rules of a source say, the first that matches a metric; `suppressed` counts what never went out.

    A metric that no rule matches, and one of another lane than LIVE, such as an alarm, is always reported.
    """

    def __init__(self, rules: Sequence[ReportRule], metrics: Iterable[MetricInfo]) -> None:
        self.suppressed = 0
        self._watched: dict[str, _Watched] = {}
        for metric in metrics:
            rule = next((rule for rule in rules if fnmatchcase(metric.name, rule.metrics)), None)
            if rule is not None and metric.lane is Lane.LIVE:
                self._watched[metric.name] = _Watched(rule)

    @property
    def watches(self) -> bool:
        """Whether there is anything that it may hold back."""
        return bool(self._watched)

    def report(self, readings: Iterable[Reading]) -> list[Reading]:
        """Those of the readings, and of those held back before, that are to be reported; each metric's in order."""
        reported: list[Reading] = []
        for reading in readings:
            watched = self._watched.get(reading.metric)
            if watched is None:
                reported.append(reading)
                continue
            changed = watched.differs(reading)
            if changed or watched.is_due(reading):
                if watched.held is not None and changed and watched.is_near(reading):
                    reported.append(watched.held)
                    watched.held = None
                self._drop_held(watched)
                watched.note(reading)
                reported.append(reading)
            else:
                self._drop_held(watched)
                watched.held = reading
        return reported

    def note(self, reading: Reading) -> None:
        """A reading was reported by another way, such as the read-back of a write."""
        if (watched := self._watched.get(reading.metric)) is not None:
            self._drop_held(watched)
            watched.note(reading)

    def forget(self) -> None:
        """The next reading of every metric is reported, as after a birth, whose reader knows of none before."""
        for watched in self._watched.values():
            self._drop_held(watched)
            watched.reported = None

    def flush(self) -> list[Reading]:
        """What is held back now, before an end: a trend line then reaches up to it."""
        held = [watched.held for watched in self._watched.values() if watched.held is not None]
        for watched in self._watched.values():
            watched.held = None
        return held

    def _drop_held(self, watched: _Watched) -> None:
        if watched.held is not None:
            self.suppressed += 1
            watched.held = None


class _Watched:
    """What is known of one metric: the reading last reported, and the last one since that was not."""

    __slots__ = ("_limit", "_max_silence_ms", "_rule", "held", "reported")

    def __init__(self, rule: ReportRule) -> None:
        self.reported: Reading | None = None
        self.held: Reading | None = None
        self._rule = rule
        self._limit = 0.0
        self._max_silence_ms = rule.max_silence_s * _MS_PER_S

    def note(self, reading: Reading) -> None:
        self.reported = reading
        self._limit = _limit(self._rule, reading.value)

    def is_due(self, reading: Reading) -> bool:
        """Whether the silence has been long enough; a time before the last one reported is news of itself."""
        assert self.reported is not None
        silence_ms = reading.sampled_at_ms - self.reported.sampled_at_ms
        return not 0 <= silence_ms < self._max_silence_ms

    def is_near(self, reading: Reading) -> bool:
        """Whether the reading held back is of the same time: a clock that is set, or an outage, may lie between."""
        assert self.held is not None
        return 0 < reading.sampled_at_ms - self.held.sampled_at_ms < self._max_silence_ms

    def differs(self, reading: Reading) -> bool:
        """Whether the deadband, the quality or the kind of value is left; always where nothing was reported yet."""
        last = self.reported
        if last is None or reading.quality != last.quality:
            return True
        old, new = last.value, reading.value
        if not (_is_number(old) and _is_number(new)):
            return old != new or type(old) is not type(new)
        if old == new or (old != old and new != new):  # noqa: PLR0124 - only NaN is unlike itself
            return False
        try:
            # Not `>`: a difference from NaN is NaN, and is one.
            return not abs(new - old) <= self._limit
        except OverflowError:  # an integer that no float can hold
            return True


def _is_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _limit(rule: ReportRule, value: Value) -> float:
    """How far a value may go from one just reported: not at all from what is no finite number."""
    if not isinstance(value, int | float):
        return 0.0
    try:
        if not math.isfinite(value):
            return 0.0
        return abs(value) * rule.deadband_percent / 100 if rule.deadband_percent is not None else rule.deadband or 0.0
    except OverflowError:
        return 0.0
