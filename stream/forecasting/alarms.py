"""Incidents that devices have told, brought from the readings into `anomaly`.

A device tells its alarm when it changes and each minute, so that of a day is little: all of it is looked at whenever
something came, and what comes of it depends on the readings alone, not on the order in which they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract.manifest import ANOMALY, CONTRIBUTION, SCORE
from stream import turn
from stream.forecasting import tables
from stream.forecasting.edge import alarms, peak_of, shares_at
from stream.forecasting.evidence import evidence
from stream.forecasting.incidents import Incident
from stream.forecasting.landing import AHEAD_MS, EDGE, Counts, versions_of
from stream.forecasting.lookup import newest_ms
from stream.forecasting.readings import read, text_of
from stream.forecasting.tables import Anomaly

if TYPE_CHECKING:
    from psycopg2.extensions import cursor

    from stream.forecasting.cloud import Bound
    from stream.forecasting.edge import Spell
    from stream.forecasting.watched import Watched

# As far as a reading may lie before the end of a window to be evidence.
_EVIDENCE_MS: Final = 120_000

_EARLIER: Final = """
select (extract(epoch from max(started_at)) * 1000)::bigint from anomaly
 where (group_id, node_id, device_id, metric, detector, place) = (%s, %s, %s, %s, %s, %s) and started_at <= %s
   and (ended_at is null or ended_at >= %s)
"""
_SUPERSEDED: Final = """
delete from anomaly
 where (group_id, node_id, device_id, metric, detector, place) = (%s, %s, %s, %s, %s, %s)
   and started_at >= %s and started_at <= %s and started_at <> all(%s::timestamptz[])
"""


class Alarms:
    """The incidents of devices; it commits as it goes."""

    def __init__(self, late_ms: int) -> None:
        self._late_ms = late_ms
        self._counts = Counts(late_ms)
        self._newest: dict[int, int] = {}
        self._over: dict[tuple[str, Watched], set[Spell]] = {}

    def land(self, cursor: cursor, bound: Bound, now_ms: int, *, late: bool) -> int:
        """Bring in what is new, and with `late` what came late; how many incidents were looked at."""
        name = bound.manifest.name
        series = {
            results.metrics[ANOMALY]: watched
            for watched, results in bound.results.items()
            if {ANOMALY, SCORE} <= results.metrics.keys()
        }
        if not series:
            return 0
        newest = newest_ms(cursor, list(series), now_ms - self._late_ms, now_ms + AHEAD_MS)
        wanted = {series[number] for number, ms in newest.items() if ms > self._newest.get(number, 0)}
        for watched, from_ms, to_ms in self._counts.changed(cursor, bound, now_ms) if late else ():
            over = self._over.get((name, watched), set())
            self._over[name, watched] = {each for each in over if (each[1] or now_ms) <= from_ms or each[0] >= to_ms}
            wanted.add(watched)
        found = sum(
            self.land_span(cursor, bound, each, now_ms - self._late_ms, now_ms + AHEAD_MS)
            for each in wanted & set(series.values())
        )
        self._newest |= newest
        return found

    def land_span(self, cursor: cursor, bound: Bound, watched: Watched, from_ms: int, to_ms: int) -> int:
        """The incidents of one watched within this time; what stands there otherwise goes. How many were new."""
        results = bound.results[watched]
        known = self._over.setdefault((bound.manifest.name, watched), set())
        key = (*watched.device, watched.subject, bound.manifest.name, EDGE)
        found = alarms(results, read(cursor, [(results.metrics[ANOMALY], from_ms, to_ms)]))
        if found:
            # What was on when this time began may have begun before.
            began, ended = found[0]
            cursor.execute(_EARLIER, (*key, text_of(began), text_of(began)))
            ((earlier,),) = cursor.fetchall()
            found[0] = (began if earlier is None or earlier >= from_ms else earlier, ended)
        new = [each for each in found if each not in known]
        rows = [_anomaly(cursor, bound, watched, each, to_ms) for each in new]
        turn.take(cursor, "forecasting")
        starts = [text_of(began) for began, _ in found]
        cursor.execute(_SUPERSEDED, (*key, text_of(from_ms), text_of(to_ms), starts))
        tables.put_anomalies(cursor, rows)
        cursor.connection.commit()
        known.update(each for each in new if each[1] is not None)
        known -= {each for each in known if each[1] is not None and each[1] < from_ms}
        return len(new)


def _anomaly(cursor: cursor, bound: Bound, watched: Watched, spell: Spell, to_ms: int) -> Anomaly:
    results, (began, ended) = bound.results[watched], spell
    last = to_ms if ended is None else ended
    threshold = bound.rule.threshold
    # Without a score all that is known is that it was above the threshold.
    peak_ms, score = peak_of(spell, results, read(cursor, [(results.metrics[SCORE], began, last)])) or (
        began,
        threshold,
    )
    shares = [each for metric, each in results.metrics.items() if metric.startswith(f"{CONTRIBUTION}/")]
    told = read(cursor, [(series, peak_ms, peak_ms + 1) for series in shares])
    seen = read(cursor, [(each, peak_ms - _EVIDENCE_MS, peak_ms) for each in bound.series[watched].values()])
    why = evidence(bound.manifest, bound.series[watched], seen, peak_ms, score, shares_at(results, told, peak_ms))
    incident = Incident(began, peak_ms, score, threshold, why, ended, is_told=True)
    version = versions_of(cursor, results, peak_ms, peak_ms + 1).at(peak_ms)
    return Anomaly(watched, bound.manifest.name, version, EDGE, incident)
