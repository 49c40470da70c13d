"""Readings to forecasts and scores, as pure DataFrame -> DataFrame.

Series are put together in shards, and a shard is worked on as a whole: its steps, windows and predictions are arrays
over all of its series. State and calls by series would cost ten times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j publishes no types
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812 - Spark's own custom
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    DoubleType,
    IntegerType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from contract.manifest import AnomalyOutput, ForecastOutput
from stream.errors import ModelError
from stream.serving.served import ServedModel
from stream.serving.shard import forecast_rows, score_rows
from stream.workers import step_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from stream.serving.package import Package
    from stream.serving.shard import RowsOf

SHARDS: Final = 8
_MODELS_KEPT: Final = 4


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is told, and how a shard's rows of it are made."""

    columns: Sequence[StructField]
    make: RowsOf


def forecasts(
    readings: DataFrame, ends: DataFrame, package: Package, keys: Sequence[str], shards: int = SHARDS
) -> DataFrame:
    """What the model tells of each series' windows that end at `ends`; raises ModelError for one of another kind.

    `readings` has the columns `keys`, which tell series apart, and metric, sampled_at, value and quality: those that
    the windows need, in any order. `ends` has `keys` and made_at, whole steps. For each window that is whole there is
    a row for each target and horizon: `keys`, made_at, target, horizon (steps), horizon_s, target_at, a column for
    each quantile (p10 and so on), model, version. With steps `present` it is not known beforehand when a step will be,
    and target_at is null.
    """
    output = package.manifest.output
    if not isinstance(output, ForecastOutput):
        raise ModelError(f"{package.title}: is for {output.kind}, not for a forecast")
    columns = [
        StructField("target", StringType(), nullable=False),
        StructField("horizon", IntegerType(), nullable=False),
        StructField("horizon_s", DoubleType(), nullable=False),
        StructField("target_at", TimestampType()),
        *(StructField(name, DoubleType(), nullable=False) for name in quantile_columns(output.quantiles)),
    ]
    return _told(readings, ends, package, keys, shards, _Rows(columns, forecast_rows))


def scores(
    readings: DataFrame, ends: DataFrame, package: Package, keys: Sequence[str], shards: int = SHARDS
) -> DataFrame:
    """How unusual each series' windows are that end at `ends`; raises ModelError for a model of another kind.

    As `forecasts`, with a row for each window that is whole: `keys`, made_at, score, threshold, contribution (each
    feature's share of the score; empty where the model tells none), model, version.
    """
    output = package.manifest.output
    if not isinstance(output, AnomalyOutput):
        raise ModelError(f"{package.title}: is for a {output.kind}, not for anomalies")
    columns = [
        StructField("score", DoubleType(), nullable=False),
        StructField("threshold", DoubleType(), nullable=False),
        StructField("contribution", MapType(StringType(), DoubleType(), valueContainsNull=False), nullable=False),
    ]
    return _told(readings, ends, package, keys, shards, _Rows(columns, score_rows))


def quantile_columns(quantiles: Sequence[float]) -> list[str]:
    """What the columns of quantiles are called: p10, p2_5."""
    return [f"p{100 * each:.12g}".replace(".", "_") for each in quantiles]


def _told(
    readings: DataFrame, ends: DataFrame, package: Package, keys: Sequence[str], shards: int, rows: _Rows
) -> DataFrame:
    types = {name: readings.schema[name].dataType for name in keys}
    schema = StructType(
        [
            *(StructField(name, types[name]) for name in keys),
            StructField("made_at", TimestampType(), nullable=False),
            *rows.columns,
            StructField("model", StringType(), nullable=False),
            StructField("version", StringType(), nullable=False),
        ]
    )
    table_schema, make = to_arrow_schema(schema, timezone="UTC"), rows.make

    def told(known: pa.Table, wanted: pa.Table) -> pa.Table:
        step_back()
        if not (known.num_rows and wanted.num_rows):
            return table_schema.empty_table()
        return make(_loaded(package), keys, known, wanted, table_schema)

    # By the same types, or equal keys would have unequal hashes.
    wanted = ends.select(
        *(F.col(name).cast(types[name]).alias(name) for name in keys), F.col("made_at").cast("timestamp")
    )
    known = readings.where(F.col("metric").isin(list(package.manifest.sources))).select(
        *keys,
        "metric",
        F.col("sampled_at").cast("timestamp"),
        F.col("value").cast("double"),
        F.col("quality").cast("int"),
    )
    shard = F.pmod(F.xxhash64(*keys), F.lit(shards))
    return known.groupBy(shard).cogroup(wanted.groupBy(shard)).applyInArrow(told, schema).select(*schema.names)


def trial(spark: SparkSession, package: Package) -> None:
    """Loads and tries a model in one of Spark's workers, the driver staying free of TensorFlow; raises ModelError."""

    def fault_of(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        step_back()
        for _ in batches:
            fault = None
            try:
                _loaded(package)
            except ModelError as exc:
                fault = str(exc)
            yield pa.RecordBatch.from_pydict({"fault": pa.array([fault], pa.string())})

    try:
        found = spark.range(1).coalesce(1).mapInArrow(fault_of, "fault string").collect()
    except (PySparkException, Py4JJavaError) as exc:
        from stream.query import summary  # noqa: PLC0415 - workers import this module, and need no database for it

        raise ModelError(f"{package.title}: ended the worker that tried it: {summary(str(exc))[:300]}") from exc
    for row in found:
        if row.fault is not None:
            raise ModelError(row.fault)


@lru_cache(maxsize=_MODELS_KEPT)
def _loaded(package: Package) -> ServedModel:
    """Once in a worker's life: it takes a second, and the first one as long as importing TensorFlow."""
    return ServedModel.load(package)
