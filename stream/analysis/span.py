"""A span of time that is worked out again, and what is of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from stream.analysis.anomalies import ROBUST, STUCK
from stream.forecasting.readings import text_of

if TYPE_CHECKING:
    from psycopg2.extensions import cursor

    from stream.analysis.findings import Findings

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

_OF_SERIES: Final = "and series_id = any(%(ids)s)"
_OF_NAMES: Final = """
and (group_id, node_id, device_id, metric) in (
  select group_id, node_id, device_id, metric from series where series_id = any(%(ids)s))
"""
_BARS: Final = """
delete from bar
where starts_at >= %(first)s and starts_at < %(last)s and starts_at + make_interval(secs => width_s) > %(from)s
"""
_TRENDS: Final = "delete from trend where at > %(after)s and at <= %(last)s "
_ANOMALIES: Final = """
delete from anomaly
where place = 'cloud' and detector = any(%(detectors)s) and started_at >= %(after)s and started_at < %(last)s
"""
_TAKEN_OUT: Final = """
returning group_id, node_id, device_id, metric, detector, (extract(epoch from started_at) * 1000)::bigint,
          (extract(epoch from ended_at) * 1000)::bigint
"""
_LATE: Final = """
delete from late_reading where bucket_at >= %(hour)s and bucket_at < %(to)s and noted_at <= %(now)s
"""


@dataclass(frozen=True, slots=True)
class Span:
    """From `from_ms` on to before `to_ms`, UTC; detectors see what was `warm_up_ms` before it, too.

    What is later than `now_ms` is left to the job. `widest_ms` is the width of the widest bars, a day at least.
    """

    from_ms: int
    to_ms: int
    now_ms: int
    warm_up_ms: int = DAY_MS
    widest_ms: int = DAY_MS

    @property
    def reads_from_ms(self) -> int:
        """From when on readings are wanted, so that the bars that reach into it are whole."""
        return self.from_ms // self.widest_ms * self.widest_ms - self.warm_up_ms

    @property
    def reads_to_ms(self) -> int:
        """Up to when: the widest bars, and the sessions', that begin in it end by then."""
        return min((self.to_ms // self.widest_ms + 2) * self.widest_ms, self.now_ms)

    def since(self, reach_ms: int) -> Self:
        """What of it a log that begins at `reach_ms` can make again: whole bars, with the warm-up before."""
        if reach_ms <= max(self.reads_from_ms, 0):
            return self
        first_ms = -(-(reach_ms + self.warm_up_ms) // self.widest_ms) * self.widest_ms
        return replace(self, from_ms=max(self.from_ms, first_ms))

    def of(self, found: Findings) -> Findings:
        """What is of it: bars that reach into it, trends told in it, anomalies that begin in it, late readings."""
        bars, at_ms, started_ms = found.bars, found.trends.at_ms, found.anomalies.started_at_ms
        end_ms, bucket_ms = bars.starts_at_ms + bars.width_s.astype(np.int64) * 1000, found.late.bucket_at_ms
        return replace(
            found,
            bars=_where(bars, (bars.starts_at_ms < self.to_ms) & (end_ms > self.from_ms)),
            trends=_where(found.trends, (at_ms > self.from_ms) & (at_ms <= self.to_ms)),
            anomalies=_where(found.anomalies, (started_ms >= self.from_ms) & (started_ms < self.to_ms)),
            late=_where(found.late, (bucket_ms >= self._hour_ms) & (bucket_ms < self.to_ms)),
        )

    def drop(
        self, cursor: cursor, ids: list[int] | None = None, first_ms: int = 0, last_ms: int | None = None
    ) -> list[tuple[Any, ...]]:
        """Delete its bars, trends and anomalies, of some series or of all; of it only from `first_ms` to `last_ms`.

        What the anomalies were: group to detector, and in ms when each started and ended, None for one that lasts.
        """
        times = {
            "first": first_ms,
            "after": max(first_ms, self.from_ms),
            "last": self.to_ms if last_ms is None else min(last_ms, self.to_ms),
            "from": self.from_ms,
        }
        given: dict[str, Any] = {"ids": ids, "detectors": [ROBUST, STUCK]}
        given |= {name: text_of(ms) for name, ms in times.items()}
        for statement in (_BARS, _TRENDS):
            cursor.execute(statement if ids is None else statement + _OF_SERIES, given)
        cursor.execute(_ANOMALIES + ("" if ids is None else _OF_NAMES) + _TAKEN_OUT, given)
        return cursor.fetchall()

    def drop_late(self, cursor: cursor, ids: list[int] | None = None, last_ms: int | None = None) -> None:
        """Delete what was noted of late readings of it until now, or only of those before `last_ms`."""
        to_ms = self.to_ms if last_ms is None else min(last_ms, self.to_ms)
        times = {"hour": self._hour_ms, "to": to_ms, "now": self.now_ms}
        whole = _LATE if ids is None else _LATE + _OF_SERIES
        cursor.execute(whole, {"ids": ids} | {name: text_of(ms) for name, ms in times.items()})

    @property
    def _hour_ms(self) -> int:
        return self.from_ms // HOUR_MS * HOUR_MS


def _where(rows: Any, chosen: Any) -> Any:  # noqa: ANN401 - rows of any kind
    return replace(rows, **{each.name: getattr(rows, each.name)[chosen] for each in fields(rows)})
