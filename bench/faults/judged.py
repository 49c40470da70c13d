"""Which alarms were right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from bench.faults.histories import Fault, History
    from bench.faults.methods import Alarm

KINDS: Final = ("bearing_wear", "leak", "stuck_sensor")
_DAY_MS: Final = 86_400_000
# An alarm tells of a fault until so long after its end. Then, for as long again, it is neither right nor false.
_GRACE_MS: Final = 120_000


@dataclass(frozen=True, slots=True)
class Judged:
    """How faults and alarms fit together.

    `found` and `pointed` have the alarms that tell of each fault: of any series, and of what was wrong. `false`
    counts those at times when nothing was wrong, as a person would be called; `by_chance` is the share of faults that
    as many false ones would have met.
    """

    faults: tuple[Fault, ...]
    found: tuple[list[Alarm], ...]
    pointed: tuple[list[Alarm], ...]
    false: int
    false_a_day: float
    false_a_day_and_series: float | None
    by_chance: float

    @classmethod
    def of(
        cls,
        faulty: Sequence[History],
        told: Sequence[list[Alarm]],
        healthy: Sequence[History],
        wrong: Sequence[list[Alarm]],
        settle_hours: float,
    ) -> Judged:
        """Of histories with faults, and without, and the alarms in each of them."""
        told, wrong = _settled(faulty, told, settle_hours), _settled(healthy, wrong, settle_hours)
        pairs = [(f, t) for h, t in zip(faulty, told, strict=True) for f in _judged_faults(h, settle_hours)]
        found = tuple([alarm for alarm in some if _tells_of(alarm, fault)] for fault, some in pairs)
        pointed = tuple([a for a in some if _is_of(a, fault)] for (fault, _), some in zip(pairs, found, strict=True))
        outside = [
            [a for a in t if not any(_is_near(a, f) for f in h.faults)] for h, t in zip(faulty, told, strict=True)
        ]
        days = sum((each.at_ms[-1] - each.at_ms[0]) / _DAY_MS - settle_hours / 24 for each in healthy)
        a_day = sum(_calls(each) for each in wrong) / days
        series = len(faulty[0].names) if any(a.series for each in (*told, *wrong) for a in each) else None
        length_ms = sum(fault.end_ms - fault.start_ms for fault, _ in pairs) / max(len(pairs), 1) + _GRACE_MS
        return cls(
            faults=tuple(fault for fault, _ in pairs),
            found=found,
            pointed=pointed,
            false=sum(_calls(each) for each in outside),
            false_a_day=a_day,
            false_a_day_and_series=None if series is None else sum(len(each) for each in wrong) / days / series,
            by_chance=-float(np.expm1(-a_day * length_ms / _DAY_MS)),
        )

    def cells(self) -> Iterator[str]:
        """Of a row of the table."""
        found = [bool(each) for each in self.found]
        yield _share(found)
        yield f"{self.by_chance:.2f}"
        for kind in KINDS:
            yield _share([there for there, each in zip(found, self.faults, strict=True) if each.kind == kind])
        is_told = self.false_a_day_and_series is not None
        yield _share([bool(each) for each in self.pointed]) if is_told else "-"
        yield f"{sum(found) / max(sum(found) + self.false, 1):.2f}"
        delays = [
            min(a.at_ms for a in f) - fault.start_ms for fault, f in zip(self.faults, self.found, strict=True) if f
        ]
        yield f"{np.median(delays) / 1000:.0f}" if delays else "-"
        yield f"{self.false_a_day:.1f}"
        yield f"{self.false_a_day_and_series:.2f}" if is_told else "-"


def _share(found: Collection[bool]) -> str:
    """How many of them; there may be none to find."""
    return f"{sum(found) / len(found):.2f}" if len(found) else "-"


def _settled(histories: Sequence[History], alarms: Sequence[list[Alarm]], hours: float) -> list[list[Alarm]]:
    return [
        [alarm for alarm in told if alarm.at_ms >= each.at_ms[0] + hours * 3_600_000]
        for each, told in zip(histories, alarms, strict=True)
    ]


def _judged_faults(each: History, settle_hours: float) -> list[Fault]:
    return [fault for fault in each.faults if fault.start_ms >= each.at_ms[0] + settle_hours * 3_600_000]


def _tells_of(alarm: Alarm, fault: Fault) -> bool:
    return fault.start_ms < alarm.at_ms <= fault.end_ms + _GRACE_MS


def _is_near(alarm: Alarm, fault: Fault) -> bool:
    return fault.start_ms < alarm.at_ms <= fault.end_ms + 2 * _GRACE_MS


def _is_of(alarm: Alarm, fault: Fault) -> bool:
    return alarm.series is not None and (alarm.series == fault.what or alarm.series.startswith(f"{fault.what}/"))


def _calls(alarms: Sequence[Alarm]) -> int:
    """How many there are if what begins within two minutes of the last is the same."""
    begins = np.sort([alarm.at_ms for alarm in alarms])
    return int(np.count_nonzero(np.diff(begins) >= _GRACE_MS)) + 1 if len(begins) else 0
