"""A span of time made again from the readings: what models here told of it, and how good forecasts of it were."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from contract.manifest import AnomalyOutput
from stream import turn
from stream.connection import connect, translated
from stream.errors import FatalError, ModelError
from stream.forecasting import cloud, scoring, tables
from stream.forecasting.alarms import Alarms
from stream.forecasting.incidents import Incident
from stream.forecasting.landing import AHEAD_MS, Landing
from stream.forecasting.lookup import oldest_ms
from stream.forecasting.models import Models
from stream.forecasting.progress import ForecastingProgress
from stream.forecasting.readings import text_of
from stream.forecasting.tables import Done
from stream.forecasting.watched import Device, Watched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg2.extensions import cursor
    from pyspark.sql import SparkSession

    from stream.forecasting.cloud import Bound
    from stream.forecasting.config import ForecastingConfig

# So many windows of all watched in one transaction.
_WINDOWS_AT_ONCE: Final = 20_000

_DROP_SCORES: Final = """
delete from forecast_score
 where made_at >= %(first)s and made_at <= %(last)s and target_at > %(first)s and forecaster_id in (
   select forecaster_id from forecaster
    where (place, model, version) = ('cloud', %(model)s, %(version)s)
      and (group_id, node_id, device_id, subject) in (
        select * from unnest(%(groups)s::text[], %(nodes)s::text[], %(devices)s::text[], %(subjects)s::text[])))
"""
_DROP_FORECASTS: Final = """
delete from forecast
 where made_at >= %(first)s and made_at <= %(last)s and forecaster_id in (
   select forecaster_id from forecaster
    where (place, model, version) = ('cloud', %(model)s, %(version)s)
      and (group_id, node_id, device_id, subject) in (
        select * from unnest(%(groups)s::text[], %(nodes)s::text[], %(devices)s::text[], %(subjects)s::text[])))
"""
_DROP_ANOMALIES: Final = """
delete from anomaly
 where (detector, place) = (%(model)s, 'cloud') and started_at >= %(first)s and started_at <= %(last)s
   and (group_id, node_id, device_id, metric) in (
     select * from unnest(%(groups)s::text[], %(nodes)s::text[], %(devices)s::text[], %(subjects)s::text[]))
"""
_LASTING: Final = """
select group_id, node_id, device_id, metric, (extract(epoch from started_at) * 1000)::bigint,
       (extract(epoch from peak_at) * 1000)::bigint, peak_score, threshold, evidence,
       (extract(epoch from ended_at) * 1000)::bigint
  from anomaly
 where (detector, place) = (%s, 'cloud') and started_at <= %s and (ended_at is null or ended_at > %s)
"""


@dataclass(slots=True)
class Replayed:
    """What was made again."""

    windows: int = 0
    forecasts: int = 0
    incidents: int = 0
    scored: int = 0


def replay(spark: SparkSession, config: ForecastingConfig, dsn: str, from_ms: int, to_ms: int) -> Replayed:
    """Make what is after `from_ms` up to `to_ms` again, by the versions of the models that are served now.

    What those had told of it before goes in the transaction in which the new comes, piece by piece; what other versions
    told stays. A device of which there are no readings any more keeps what there is. What devices told themselves is
    brought in where it is missing. The job may run meanwhile: nothing newer than what it has looked at is made.
    Raises DatabaseAway, and FatalError, also for a model that fails; it can then be done again.
    """
    models = Models(spark, config, ForecastingProgress())
    while models.look():
        pass
    made = Replayed()
    with closing(connect(dsn)) as opened, translated(opened), opened.cursor() as cursor:
        bounds = models.bounds(cursor)
        opened.commit()
        for bound in bounds:
            oldest = oldest_ms(cursor, _series(bound), from_ms, to_ms)
            if oldest is None:
                continue
            first, reach_ms = max(from_ms, oldest - 1), scoring.furthest_ms(bound) + AHEAD_MS
            marks = cloud.marks(cursor, bound, round(config.grace_s * 1000), first, to_ms + reach_ms)
            try:
                _Replay(spark, cursor, bound, marks, made).run(first, to_ms)
            except ModelError as exc:
                raise FatalError(f"{exc}; what was made again until then stays, and it can be done again") from exc
    return made


class _Replay:
    """Of one model and its binding."""

    def __init__(
        self, spark: SparkSession, cursor: cursor, bound: Bound, marks: Mapping[Watched, int], made: Replayed
    ) -> None:
        self._spark = spark
        self._cursor = cursor
        self._bound = bound
        self._marks = marks
        self._made = made
        self._is_anomaly = isinstance(bound.manifest.output, AnomalyOutput)
        self._forecasters = tables.Forecasters()

    def run(self, from_ms: int, to_ms: int) -> None:
        if self._bound.binding.cloud and self._bound.series:
            self._make(from_ms, to_ms)
        self._land(from_ms, to_ms)
        if self._bound.manifest.targets:
            who = scoring.forecasters(self._cursor, self._bound)
            reach_ms = scoring.furthest_ms(self._bound)
            upto = {number: self._marks[each.watched] for number, each in who.items() if each.watched in self._marks}
            self._made.scored += scoring.score_span(self._cursor, self._bound, who, upto, from_ms, to_ms + reach_ms)

    def _make(self, from_ms: int, to_ms: int) -> None:
        done = tables.done(self._cursor, cloud.CLOUD, self._bound.manifest.name)
        upto = {
            each: min(to_ms, done[each].done_to_ms if each in done else self._marks.get(each, 0))
            for each in self._bound.series
        }
        every_ms, width = self._bound.every_ms, max(1, _WINDOWS_AT_ONCE // len(self._bound.series))
        before = self._lasting(to_ms)
        now = {each: Done(from_ms, _unended(state.incident)) for each, state in self._lasting(from_ms).items()}
        for begin in range((from_ms // every_ms + 1) * every_ms, to_ms + 1, width * every_ms):
            last = begin + (width - 1) * every_ms
            ends = {each: range(begin, min(last, most) + 1, every_ms) for each, most in upto.items() if most >= begin}
            if ends:
                self._piece(ends, now)
        self._end(now, before)
        self._cursor.connection.commit()

    def _piece(self, ends: Mapping[Watched, range], now: dict[Watched, Done]) -> None:
        """Replace what there is of these windows, in a transaction."""
        rows = cloud.rows_of(self._spark, self._cursor, self._bound, ends, now)
        self._cursor.connection.commit()

        def write(cursor: cursor) -> int:
            self._drop(rows.seen, min(each[0] for each in ends.values()), max(each[-1] for each in ends.values()))
            tables.put_anomalies(cursor, rows.anomalies)
            # Numbers that it adds are gone when this is broken off.
            return tables.add_forecasts(cursor, tables.Forecasters(), rows.forecasts)

        self._made.forecasts += turn.in_turn(self._cursor.connection, "forecasting", write)
        now.update(rows.now or {})
        self._made.windows += rows.windows
        self._made.incidents += len(rows.anomalies)

    def _drop(self, watched: Sequence[Watched], first_ms: int, last_ms: int) -> None:
        if not watched:
            return
        manifest = self._bound.manifest
        given: dict[str, Any] = {
            "model": manifest.name,
            "version": manifest.version,
            "first": text_of(first_ms),
            "last": text_of(last_ms),
        }
        columns = zip(*((*each.device, each.subject) for each in watched), strict=True)
        given |= dict(zip(("groups", "nodes", "devices", "subjects"), map(list, columns), strict=True))
        for statement in (_DROP_ANOMALIES,) if self._is_anomaly else (_DROP_SCORES, _DROP_FORECASTS):
            self._cursor.execute(statement, given)

    def _lasting(self, at_ms: int) -> dict[Watched, Done]:
        """The incidents that last at a time, as they are known."""
        if not self._is_anomaly:
            return {}
        self._cursor.execute(_LASTING, (self._bound.manifest.name, text_of(at_ms), text_of(at_ms)))
        found = {}
        for group_id, node_id, device_id, subject, *known in self._cursor.fetchall():
            incident = replace(Incident(*known), is_told=True)
            found[Watched(Device(group_id, node_id, device_id), subject)] = Done(at_ms, incident)
        return found

    def _end(self, now: Mapping[Watched, Done], before: Mapping[Watched, Done]) -> None:
        """What lasts when the span ends goes on as it did before; one that is new ends with the span."""
        found = []
        for watched, each in now.items():
            if (lasting := each.incident) is None or not lasting.is_told:
                continue
            known = before[watched].incident if watched in before else None
            if known is None:
                lasting = replace(lasting, ended_ms=each.done_to_ms)
            elif known.peak_score > lasting.peak_score:
                lasting = replace(known, started_ms=lasting.started_ms)
            else:
                lasting = replace(lasting, ended_ms=known.ended_ms)
            manifest = self._bound.manifest
            found.append(tables.Anomaly(watched, manifest.name, manifest.version, cloud.CLOUD, lasting))
        tables.put_anomalies(self._cursor, found)

    def _land(self, from_ms: int, to_ms: int) -> None:
        """Bring in what devices told of the span, where it is missing."""
        results, late_ms = self._bound.results, to_ms - from_ms
        if not self._is_anomaly:
            landing = Landing(self._forecasters, late_ms)
            spans = [(each, from_ms + 1, to_ms + 1) for each in results]
            self._made.forecasts += landing.land_spans(self._cursor, self._bound, spans)
            return
        alarms = Alarms(late_ms)
        for each in results:
            self._made.incidents += alarms.land_span(self._cursor, self._bound, each, from_ms + 1, to_ms + 1)


def _series(bound: Bound) -> list[int]:
    """All that is looked at: of devices, and of what they tell of them."""
    found = [each for series in bound.series.values() for each in series.values()]
    return sorted({*found, *(each for results in bound.results.values() for each in results.metrics.values())})


def _unended(incident: Incident | None) -> Incident | None:
    return None if incident is None else replace(incident, ended_ms=None)
