"""Incidents that last when a replay ends: the job goes on with those that it knows, and nobody would end the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from stream.analysis.anomalies import ROBUST, STUCK
from stream.forecasting.readings import text_of
from stream.ingest.columns import SeriesName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from psycopg2.extensions import cursor

    from stream.analysis.findings import Findings

Of: TypeAlias = tuple[str, str, str, str, str]
"""group, node, device, metric, detector"""

_THIS: Final = """
 (group_id, node_id, device_id, metric, detector, place, started_at)
 = (%(group)s, %(node)s, %(device)s, %(metric)s, %(detector)s, 'cloud', %(started)s::timestamptz)
"""
_END: Final = f"""
update anomaly set ended_at = greatest(peak_at, %(ended)s::timestamptz), end_reason = %(reason)s
 where {_THIS} and ended_at is null
"""  # noqa: S608 - our own words
_AS_BEFORE: Final = f"""
update anomaly a set started_at = %(before)s::timestamptz, ended_at = %(ended)s::timestamptz
 where {_THIS} and ended_at is null and not exists (
   select from anomaly b where (b.group_id, b.node_id, b.device_id, b.metric, b.detector, b.place, b.started_at)
     = (a.group_id, a.node_id, a.device_id, a.metric, a.detector, a.place, %(before)s::timestamptz))
"""  # noqa: S608 - our own words
_TWICE: Final = f"delete from anomaly where {_THIS} and ended_at is null"  # noqa: S608 - our own words


_LASTING: Final = """
select group_id, node_id, device_id, metric, detector, (extract(epoch from started_at) * 1000)::bigint from anomaly
 where place = 'cloud' and detector = any(%s) and started_at >= %s and started_at < %s and ended_at is null
"""


class Before(NamedTuple):
    """What was known of an incident whose row a replay took out."""

    started_ms: int
    ended_ms: int | None


class Lasting:
    """Keeps what lasted before, and what lasts by the replay's own finding."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._before: dict[Of, Before] = {}
        self._found: dict[Of, int] = {}

    def gone(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take note of rows that are taken out: group to detector, and in ms when it started and ended."""
        for *of, started_ms, ended_ms in sorted(rows, key=lambda row: row[:6]):
            # The job may have ended it since the replay began to read.
            if ended_ms is None or ended_ms > self._now_ms:
                self._before[tuple(of)] = Before(started_ms, ended_ms)

    def told(self, found: Findings) -> None:
        """Take note of rows that are put in."""
        rows, series = found.anomalies, found.series
        columns = (rows.slot.tolist(), rows.detector.tolist(), rows.started_at_ms.tolist(), rows.ended_at_ms.tolist())
        for slot, detector, started_ms, ended_ms in zip(*columns, strict=True):
            of = (series.group_id[slot], series.node_id[slot], series.device_id[slot], series.metric[slot], detector)
            if ended_ms < 0:
                self._found[of] = started_ms
            elif self._found.get(of) == started_ms:
                del self._found[of]

    def look(self, cursor: cursor, from_ms: int, to_ms: int) -> None:
        """Take what lasts in the table for what was put in."""
        cursor.execute(_LASTING, ([ROBUST, STUCK], text_of(from_ms), text_of(to_ms)))
        self._found = {tuple(of): started_ms for *of, started_ms in cursor.fetchall()}

    def settle(self, cursor: cursor, seen_ms: Mapping[SeriesName, int]) -> None:
        """Let those go on that lasted before, by the job's own start; the others end with the last reading seen.

        Where it is not known when a series was seen last, that is now.
        """
        for of, started_ms in self._found.items():
            names = zip(("group", "node", "device", "metric", "detector"), of, strict=True)
            given: dict[str, Any] = dict(names) | {"started": text_of(started_ms)}
            before = self._before.get(of)
            if before is None:
                ended = text_of(seen_ms.get(SeriesName(*of[:4]), self._now_ms))
                cursor.execute(_END, given | {"ended": ended, "reason": "replay"})
                continue
            given["ended"] = None if before.ended_ms is None else text_of(before.ended_ms)
            if before.started_ms == started_ms:
                if before.ended_ms is not None:
                    cursor.execute(_END, given | {"reason": None})
                continue
            cursor.execute(_AS_BEFORE, given | {"before": text_of(before.started_ms)})
            if not cursor.rowcount:
                # The job has told it again meanwhile.
                cursor.execute(_TWICE, given)
