"""What models that run here tell: windows that are due, in Spark, into rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from contract.manifest import AnomalyOutput, ForecastOutput
from stream.forecasting import tables
from stream.forecasting.ends import due_ms, every_ms, mark_ms
from stream.forecasting.evidence import evidence
from stream.forecasting.incidents import Rule, Scored, follow
from stream.forecasting.lookup import newest_ms
from stream.forecasting.readings import read
from stream.forecasting.tables import Anomaly, Done, Forecast, Forecaster, Place
from stream.forecasting.told import Wanted, spans_of, times_ms, told
from stream.ingest.batch import to_numpy
from stream.serving.transform import quantile_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    from psycopg2.extensions import cursor
    from pyspark.sql import SparkSession

    from contract.manifest import Manifest, Target
    from stream.forecasting.config import Binding
    from stream.forecasting.edge import Results
    from stream.forecasting.readings import Read
    from stream.forecasting.watched import Watched
    from stream.serving import Package

CLOUD: Final[Place] = "cloud"


@dataclass(frozen=True, slots=True)
class Bound:
    """A package and its binding; of each watched its series, and the results of the agent that runs the model too."""

    package: Package
    binding: Binding
    series: Mapping[Watched, Mapping[str, int]]
    results: Mapping[Watched, Results] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """What the model says of itself."""
        return self.package.manifest

    @property
    def every_ms(self) -> int:
        """From one window to the next."""
        return every_ms(self.manifest.window, self.binding.every_s)

    @property
    def rule(self) -> Rule:
        """When a score is an incident; of a model of anomalies."""
        output = self.manifest.output
        assert isinstance(output, AnomalyOutput)
        clear = output.threshold if output.clear is None else output.clear
        return Rule(output.threshold, clear, round(self.binding.minimum_s * 1000))


@dataclass(frozen=True, slots=True)
class Rows:
    """What windows have come to; `seen` are the watched of which there were any readings."""

    windows: int
    seen: Sequence[Watched]
    forecasts: Sequence[Forecast] = ()
    anomalies: Sequence[Anomaly] = ()
    now: Mapping[Watched, Done] | None = None


def marks(cursor: cursor, bound: Bound, grace_ms: int, from_ms: int, to_ms: int) -> dict[Watched, int]:
    """Up to when each watched is complete, by its readings within this time; one that has none is not there."""
    series = {number for each in bound.series.values() for number in each.values()}
    newest = newest_ms(cursor, sorted(series), from_ms, to_ms)
    found = {
        watched: mark_ms([newest.get(number) for number in numbers.values()], grace_ms)
        for watched, numbers in bound.series.items()
    }
    return {watched: mark for watched, mark in found.items() if mark is not None}


def due(bound: Bound, done: Mapping[Watched, Done], marks: Mapping[Watched, int], most: int) -> dict[Watched, range]:
    """The ends that are due, of each watched that has any."""
    found = {}
    for watched in bound.series:
        if watched in marks:
            before = done.get(watched)
            ends = due_ms(before.done_to_ms if before else None, marks[watched], bound.every_ms, most)
            if ends:
                found[watched] = ends
    return found


def rows_of(
    spark: SparkSession,
    cursor: cursor,
    bound: Bound,
    ends: Mapping[Watched, Sequence[int]],
    done: Mapping[Watched, Done],
) -> Rows:
    """What the model tells of these windows; raises ModelError."""
    watched = list(ends)
    wanted = [Wanted(bound.series[each], ends[each]) for each in watched]
    readings = read(cursor, spans_of(bound.manifest, wanted))
    table = told(spark, bound.package, wanted, readings)
    windows = sum(len(each) for each in ends.values())
    seen = [each for each in watched if any(_any(readings, number) for number in bound.series[each].values())]
    if isinstance(bound.manifest.output, ForecastOutput):
        made = list(_forecasts(bound, watched, table))
        return Rows(windows, seen, made, now={each: Done(max(ends[each])) for each in watched})
    found, now = _incidents(bound, ends, done, _scored(bound, watched, table, readings))
    return Rows(windows, seen, anomalies=found, now=now)


def forecaster(
    manifest: Manifest, series: Mapping[str, int], watched: Watched, target: Target, place: Place
) -> Forecaster:
    """Who tells this target of this watched."""
    is_value = (target.transform, target.over) == ("value", "at")
    source = next(each.source for each in manifest.inputs if each.name == target.of[0])
    series_id = series[source] if is_value else None
    return Forecaster(watched, manifest.name, manifest.version, place, target.name, target.unit, series_id)


def _forecasts(bound: Bound, watched: Sequence[Watched], table: pa.Table) -> Iterator[Forecast]:
    output = bound.manifest.output
    assert isinstance(output, ForecastOutput)
    who = {
        (place, target.name): forecaster(bound.manifest, bound.series[each], each, target, CLOUD)
        for place, each in enumerate(watched)
        for target in output.targets
    }
    quantiles = np.stack([to_numpy(table[name], np.float64) for name in quantile_columns(output.quantiles)], axis=1)
    columns = (
        table["watched"].to_pylist(),
        table["target"].to_pylist(),
        times_ms(table["made_at"]),
        table["horizon"].to_pylist(),
    )
    for place, target, made_ms, horizon, values in zip(*columns, quantiles.tolist(), strict=True):
        horizon_ms = horizon * bound.manifest.window.step_ms
        yield Forecast(who[place, target], made_ms, horizon_ms, output.quantiles, tuple(values))


def _scored(bound: Bound, watched: Sequence[Watched], table: pa.Table, readings: Read) -> dict[Watched, list[Scored]]:
    """By watched, in order of time."""
    table = table.sort_by([("watched", "ascending"), ("made_at", "ascending")])
    threshold = bound.rule.threshold
    found: dict[Watched, list[Scored]] = {each: [] for each in watched}
    columns = (
        table["watched"].to_pylist(),
        times_ms(table["made_at"]),
        table["score"].to_pylist(),
        table["contribution"],
    )
    for place, end_ms, score, shares in zip(*columns, strict=True):
        one = watched[place]
        why = (
            evidence(bound.manifest, bound.series[one], readings, end_ms, score, shares.as_py())
            if score > threshold
            else ()
        )
        found[one].append(Scored(end_ms, score, why))
    return found


def _incidents(
    bound: Bound,
    ends: Mapping[Watched, Sequence[int]],
    done: Mapping[Watched, Done],
    scored: Mapping[Watched, Sequence[Scored]],
) -> tuple[list[Anomaly], dict[Watched, Done]]:
    """What is new of incidents, and how far each watched has come."""
    now, found = {}, []
    manifest = bound.manifest
    for each in ends:
        before = done[each].incident if each in done else None
        lasting, new = follow(before, scored[each], bound.rule)
        now[each] = Done(max(ends[each]), lasting)
        found += [Anomaly(each, manifest.name, manifest.version, CLOUD, incident) for incident in new]
    return found, now


def _any(readings: Read, series: int) -> bool:
    span = readings.of(series)
    return bool(span.stop > span.start)


def put(cursor: cursor, forecasters: tables.Forecasters, bound: Bound, rows: Rows) -> int:
    """Into the tables, in the transaction of the cursor; how many forecasts were new."""
    added = tables.add_forecasts(cursor, forecasters, rows.forecasts)
    tables.put_anomalies(cursor, rows.anomalies)
    tables.put_done(cursor, CLOUD, bound.manifest.name, rows.now or {})
    return added
