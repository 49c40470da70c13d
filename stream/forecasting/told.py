"""What a model tells of many devices at once, in Spark."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j publishes no types
from pyspark.errors import PySparkException

from contract.manifest import ForecastOutput
from stream.errors import ModelError
from stream.query import summary
from stream.serving import forecasts, scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

    from contract.manifest import View
    from stream.forecasting.readings import Read
    from stream.serving import Package

_KEY: Final = "watched"
_TIME: Final = pa.timestamp("ms", tz="UTC")
_FAILURE_CHARACTERS: Final = 300
# A Spark job has a price of its own, and a shard is one array over all of its series.
_WINDOWS_A_SHARD: Final = 2000
_MOST_SHARDS: Final = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """The windows of one watched: the series of each of the model's sources, and the windows' ends."""

    series: Mapping[str, int]
    ends_ms: Sequence[int]


def spans_of(view: View, wanted: Sequence[Wanted]) -> list[tuple[int, int, int]]:
    """The spans (series, from ms, to ms) of readings that the windows look at."""
    before_ms = (view.window.length + view.reach + max(view.hold_steps)) * view.window.step_ms
    return [
        (series, min(each.ends_ms) - before_ms, max(each.ends_ms)) for each in wanted for series in each.series.values()
    ]


def told(spark: SparkSession, package: Package, wanted: Sequence[Wanted], readings: Read) -> pa.Table:
    """The rows of `stream.serving.forecasts` or `scores`, with `watched`, the place in `wanted`, as the only key.

    Raises ModelError for a model that fails.
    """
    known = spark.createDataFrame(_readings(wanted, readings))
    ends = spark.createDataFrame(_ends(wanted))
    count = sum(len(each.ends_ms) for each in wanted)
    shards = min(_MOST_SHARDS, -(-count // _WINDOWS_A_SHARD))
    make = forecasts if isinstance(package.manifest.output, ForecastOutput) else scores
    try:
        return make(known, ends, package, [_KEY], shards).toArrow()
    except (PySparkException, Py4JJavaError) as exc:
        raise ModelError(f"{package.title}: failed in Spark: {summary(str(exc))[:_FAILURE_CHARACTERS]}") from exc


def _readings(wanted: Sequence[Wanted], readings: Read) -> pa.Table:
    """As `stream.serving` reads them: once for each watched and source that a series stands for."""
    named = [
        (place, source, readings.of(number))
        for place, each in enumerate(wanted)
        for source, number in each.series.items()
    ]
    counts = [span.stop - span.start for _, _, span in named]

    def taken(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.concatenate([column[:0], *(column[span] for _, _, span in named)])

    sources = pa.array([source for _, source, _ in named], pa.string())
    return pa.table(
        {
            _KEY: pa.array(np.repeat([place for place, _, _ in named], counts), pa.int32()),
            "metric": sources.take(pa.array(np.repeat(np.arange(len(named)), counts))),
            "sampled_at": pa.array(taken(readings.at_ms)).cast(_TIME),
            "value": pa.array(taken(readings.value)),
            "quality": pa.array(taken(readings.quality), pa.int32()),
        }
    )


def _ends(wanted: Sequence[Wanted]) -> pa.Table:
    places = [place for place, each in enumerate(wanted) for _ in each.ends_ms]
    ends_ms = [end for each in wanted for end in each.ends_ms]
    return pa.table({_KEY: pa.array(places, pa.int32()), "made_at": pa.array(ends_ms, pa.int64()).cast(_TIME)})


def times_ms(column: pa.ChunkedArray) -> list[int]:
    """A column of times as milliseconds, UTC."""
    found: list[int] = column.cast(_TIME).cast(pa.int64()).to_pylist()
    return found


def keep_warm(spark: SparkSession) -> None:
    """Give Spark's Python workers something to do, and nothing to work out: the models in them stay."""

    def same(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches

    with suppress(PySparkException, Py4JJavaError):  # what is wrong with Spark is told where it is used
        spark.range(1).coalesce(1).mapInArrow(same, "id long").collect()
