"""From scores to alarms, and which of them were right: by event, as an operator lives through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.anomaly.truth import Truth
    from models.samples import Samples

    Scores: TypeAlias = NDArray[np.float32]
    Mask: TypeAlias = NDArray[np.bool_]

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Judgement:
    """How alarms and events fit together.

    `found` is by event whether it was, `delays_s` by event that was from its begin to its first alarm; `days` is how
    long what was judged was normal.
    """

    found: tuple[bool, ...]
    delays_s: tuple[float, ...]
    false_alarms: int
    days: float

    @property
    def precision(self) -> float:
        """Of events found and false alarms the share that were events; 0 where there was no alarm."""
        told = sum(self.found) + self.false_alarms
        return sum(self.found) / told if told else 0.0

    @property
    def recall(self) -> float:
        """The share of events that were found."""
        return sum(self.found) / len(self.found) if self.found else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    @property
    def false_alarms_per_day(self) -> float:
        """Of normal time."""
        return self.false_alarms / self.days if self.days else 0.0


def is_alarmed(scores: Scores, level: float, clear: float) -> Mask:
    """Whether there is an alarm, for scores in order of time: from above `level` to below `clear`, as on the device."""
    turned = np.where(scores > level, 1, np.where(scores < clear, -1, 0))
    last = np.maximum.accumulate(np.where(turned != 0, np.arange(len(scores)), -1))
    return np.asarray((last >= 0) & (turned[last] == 1), bool)


def judged(truth: Truth, samples: Samples, scores: Scores, level: float, clear: float) -> Judgement:
    """Events and alarms of all tables.

    An alarm is right that begins in an event or up to a window's length after it; one that begins in the rest of the
    aftermath is neither right nor false. One that was there before the event began is not an alarm for it: it tells an
    operator nothing new.
    """
    begins_ms: dict[int, list[int]] = {}
    false_alarms = 0
    for table in np.unique(samples.table):
        mine = samples.table == table
        alarmed = is_alarmed(scores[mine], level, clear)
        begins = alarmed & ~np.concatenate([[False], alarmed[:-1]])
        begins_ms[int(table)] = samples.end_ms[mine][begins].tolist()
        false_alarms += int(np.count_nonzero(truth.is_normal[mine] & begins))
    delays = [
        _delay_ms(begins_ms.get(each.table, ()), each.incident.start_ms, each.incident.end_ms + truth.span_ms)
        for each in truth.events
    ]
    found = tuple(each is not None for each in delays)
    return Judgement(
        found, tuple(each / 1000 for each in delays if each is not None), false_alarms, _days(truth, samples)
    )


def _delay_ms(begins_ms: Sequence[int], from_ms: int, to_ms: int) -> int | None:
    return min((each - from_ms for each in begins_ms if from_ms < each <= to_ms), default=None)


def _days(truth: Truth, samples: Samples) -> float:
    """Each normal window stands for the time to the one after it."""
    step_ms = 0.0
    for table in np.unique(samples.table):
        apart = np.diff(samples.end_ms[samples.table == table])
        step_ms = max(step_ms, float(np.median(apart)) if len(apart) else 0.0)
    return float(np.count_nonzero(truth.is_normal)) * step_ms / _DAY_MS
