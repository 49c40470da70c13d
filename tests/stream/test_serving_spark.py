from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyspark.errors import PythonException

from contract.windows import Steps, Windows, resampled, windows_at
from stream.errors import ModelError
from stream.serving import ServedModel, forecasts, read_package, scores, trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from contract.manifest import View

KEYS = ["node", "line"]
READINGS = "node string, line int, metric string, sampled_at timestamp, value double, quality smallint"
ENDS = "node string, line bigint, made_at timestamp"
BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
SERIES = [("n1", 1), ("n1", 2), ("n2", 1), ("n3", None)]
SECONDS = 12

Row = tuple[str, int | None, str, dt.datetime, float | None, int]


def at(seconds: float) -> dt.datetime:
    return BEGIN + dt.timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Of each series a value of each input a second; n2 lacks most of its levels, n3 has bad flows only."""
    rng = np.random.default_rng(5)
    made: list[Row] = []
    for node, line in SERIES:
        for second in range(SECONDS):
            for metric, value in zip(("level", "flow", "other"), rng.normal(5, 2, 3).tolist(), strict=True):
                if (node, metric) != ("n2", "level") or second in {0, 11}:
                    quality = 0 if (node, metric) == ("n3", "flow") else 192
                    made.append((node, line, metric, at(second + 0.25), value, quality))
    return made


@pytest.fixture(scope="module")
def ends(spark: SparkSession) -> DataFrame:
    """Windows that end after 6 to 12 seconds, of all series and of one that nobody knows."""
    wanted = [(node, line, at(end)) for node, line in [*SERIES, ("n9", 9)] for end in range(6, SECONDS + 1)]
    return spark.createDataFrame(wanted, ENDS)


def alone(view: View, rows: Sequence[Row], node: str, line: int) -> Windows:
    """A series' windows, by themselves."""
    columns = []
    for each in view.inputs:
        found = [row for row in rows if row[:3] == (node, line, each.source)]
        times = np.asarray([round(row[3].timestamp() * 1000) for row in found], np.int64)
        columns.append((times, np.asarray([row[4] for row in found], np.float64)))
    steps: Steps = resampled(view.inputs, view.window, [one for one, _ in columns], [one for _, one in columns])
    end_ms = [round(at(end).timestamp() * 1000) for end in range(6, SECONDS + 1)]
    return windows_at(view, steps, np.asarray(end_ms, np.int64))


def test_forecasts_are_those_of_each_series_alone(
    spark: SparkSession, rows: list[Row], ends: DataFrame, tmp_path: Path, write_package: Callable[..., Path]
) -> None:
    package = read_package(write_package(tmp_path, "forecast"))
    readings = spark.createDataFrame(rows[::-1], READINGS)
    made = forecasts(readings, ends, package, KEYS, shards=2)
    found = made.orderBy(*KEYS, "made_at", "target", "horizon").collect()
    assert {(row.node, row.line) for row in found} == {("n1", 1), ("n1", 2)}  # the others lack too much

    model = ServedModel.load(package)
    seen = alone(package.manifest, rows, "n1", 2)
    assert seen.is_whole.all()
    expected = model.forecast(seen)  # [windows, targets, horizons, quantiles]
    mine = [row for row in found if row.line == 2]
    assert len(mine) == 7 * 2 * 2
    quantiles = np.asarray([[row.p2_5, row.p50, row.p90] for row in mine]).reshape(7, 2, 2, 3)
    np.testing.assert_allclose(quantiles, expected[:, ::-1], rtol=1e-6)  # flow before level
    first = mine[1].asDict()
    assert {name: first[name] for name in ("target", "horizon", "horizon_s", "model", "version")} == {
        "target": "flow",
        "horizon": 30,
        "horizon_s": 30.0,
        "model": "tank",
        "version": "3",
    }
    assert (first["made_at"].astimezone(dt.UTC), first["target_at"].astimezone(dt.UTC)) == (at(6), at(36))


def test_the_schema_is_stated(
    spark: SparkSession, ends: DataFrame, tmp_path: Path, write_package: Callable[..., Path]
) -> None:
    empty = spark.createDataFrame([], READINGS)
    package = read_package(write_package(tmp_path, "forecast"))
    told = forecasts(empty, ends, package, KEYS, shards=1)
    assert told.schema.simpleString() == (
        "struct<node:string,line:int,made_at:timestamp,target:string,horizon:int,horizon_s:double,target_at:timestamp,"
        "p2_5:double,p50:double,p90:double,model:string,version:string>"
    )
    assert told.collect() == []
    anomaly = read_package(write_package(tmp_path, "anomaly"))
    assert scores(empty, ends, anomaly, KEYS).schema.simpleString() == (
        "struct<node:string,line:int,made_at:timestamp,score:double,threshold:double,"
        "contribution:map<string,double>,model:string,version:string>"
    )
    with pytest.raises(ModelError, match="is for anomaly, not for a forecast"):
        forecasts(empty, ends, anomaly, KEYS)
    with pytest.raises(ModelError, match="is for a forecast, not for anomalies"):
        scores(empty, ends, package, KEYS, shards=1)


def test_scores_are_those_of_each_series_alone(
    spark: SparkSession, rows: list[Row], ends: DataFrame, tmp_path: Path, write_package: Callable[..., Path]
) -> None:
    package = read_package(write_package(tmp_path, "anomaly"))
    made = scores(spark.createDataFrame(rows, READINGS), ends, package, KEYS, shards=1)
    found = made.where("node = 'n1' and line = 1").orderBy("made_at").collect()
    seen = alone(package.manifest, rows, "n1", 1)
    expected, shares = ServedModel.load(package).score(seen)
    np.testing.assert_allclose([row.score for row in found], expected, rtol=1e-6)
    told = [[row.contribution["level"], row.contribution["flow"]] for row in found]
    np.testing.assert_allclose(told, shares, rtol=1e-5)
    assert {row.threshold for row in found} == {2.5}


def test_a_step_without_a_known_time_has_no_target_time(
    spark: SparkSession, rows: list[Row], tmp_path: Path, write_package: Callable[..., Path]
) -> None:
    window = {"length": 6, "step_s": 1, "steps": "present", "max_bad_share": 0.25}
    package = read_package(write_package(tmp_path, "forecast", window=window))
    # Only every other second has any.
    spread = [(*row[:3], row[3] + (row[3] - BEGIN), *row[4:]) for row in rows]
    wanted = spark.createDataFrame([("n1", 1, at(2 * SECONDS))], ENDS)
    found = forecasts(spark.createDataFrame(spread, READINGS), wanted, package, KEYS, shards=1).collect()
    assert [(row.target, row.horizon, row.target_at) for row in found] == [
        ("level", 1, None),
        ("level", 30, None),
        ("flow", 1, None),
        ("flow", 30, None),
    ]


@dataclass(frozen=True)
class Deadly:
    """Ends the worker that it is carried to, as a crash in TensorFlow would."""

    title: str = "tank 3"

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return os._exit, (9,)


def test_a_model_that_ends_the_worker_is_refused_by_a_trial(spark: SparkSession) -> None:
    with pytest.raises(ModelError, match=r"^tank 3: ended the worker that tried it: .*[Pp]ython worker.*"):
        trial(spark, Deadly())  # type: ignore[arg-type]  # a package is what it is told to be


def test_a_model_that_does_not_run_is_told_by_a_trial(
    spark: SparkSession, rows: list[Row], ends: DataFrame, tmp_path: Path, write_package: Callable[..., Path]
) -> None:
    trial(spark, read_package(write_package(tmp_path, "forecast")))
    lying: dict[str, Any] = {"window": {"length": 7, "step_s": 1}}
    package = read_package(write_package(tmp_path, "forecast", **lying))
    with pytest.raises(ModelError, match=r"^tank 3: takes \(None, 6, 2\): the manifest says \(None, 7, 2\)$"):
        trial(spark, package)
    with pytest.raises(PythonException, match=r"tank 3: takes \(None, 6, 2\): the manifest says"):
        forecasts(spark.createDataFrame(rows, READINGS), ends, package, KEYS, shards=1).collect()
