"""Every way to run a model tells the same of 1,000 windows of irregular readings, in the units of its targets.

Bounds are in shares of a target's scale, the standard deviation that a net has for 1, and for an anomaly's score in
shares of the score. What runs in float differs by rounding alone. int8 rounds what goes in, comes out and is kept
between steps to 256 levels each: of a range of some 8 deviations one level is 0.03 of them.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from contract.manifest import Manifest, parse_manifest
from contract.windows import Windows, absolute, resampled, windows_at
from edge.models.child import WindowToRun, started
from edge.models.config import InferenceConfig, ModelConfig
from edge.models.feed import Feed
from edge.models.package import read_package, settings_of
from models.autoencoder import Autoencoder
from models.forecaster import Forecaster
from models.quantization.measuring import measure, runtimes
from stream.serving import ServedModel, forecasts
from stream.serving import read_package as read_served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pyspark.sql import SparkSession

    from contract.card import Form
    from models.recipe import AnomalyRecipe, ForecastRecipe

    Floats = NDArray[np.float64]

WINDOWS = 1000
SECONDS = 1800
BEGIN_MS = 1_767_571_200_000
FLOAT = 1e-4
# The greatest difference in any number of 1,000 forecasts, and the mean one.
INT8, INT8_MEAN = 0.15, 0.02
SCORE_INT8, SCORE_INT8_MEAN = 0.2, 0.03


@dataclass(frozen=True)
class Readings:
    """Of one metric, in order of time; NaN is one of bad quality."""

    metric: str
    at_ms: NDArray[np.int64]
    values: Floats


@dataclass(frozen=True)
class Made:
    """A package, and the whole windows that readings gave."""

    package: Path
    manifest: Manifest
    readings: Sequence[Readings]
    windows: Windows

    def content(self, form: str) -> bytes:
        (file,) = [each.file for each in self.manifest.tflite_files if each.form == form]
        return (self.package / file).read_bytes()


def signals(seconds: Floats) -> dict[str, Floats]:
    """What is measured, at any time."""
    wave = 3 + np.sin(seconds / 5)
    return {"wave": wave, "flow": 10 + 2 * wave, "pressure": 5 - 0.5 * wave + 0.2 * np.sin(seconds / 17)}


def readings_of(metrics: Sequence[str]) -> list[Readings]:
    """At any time, some bad, some late by seconds, none for a while now and then."""
    random = np.random.default_rng(11)
    made = []
    for metric in metrics:
        at_s = np.cumsum(random.choice([0.2, 0.4, 0.7, 1.1], size=5 * SECONDS))
        at_s = at_s[(at_s < SECONDS) & ((at_s + 40) % 211 > 6)]
        values = signals(at_s)[metric] + random.normal(0, 0.1, len(at_s))
        values[random.random(len(at_s)) < 0.02] = np.nan
        made.append(Readings(metric, BEGIN_MS + (at_s * 1000).astype(np.int64), values))
    return made


def made_of(package: Path) -> Made:
    manifest = parse_manifest((package / "manifest.json").read_bytes(), "manifest.json")
    readings = readings_of(manifest.sources)
    by_metric = {each.metric: each for each in readings}
    inputs = [by_metric[each.source] for each in manifest.inputs]
    steps = resampled(
        manifest.inputs, manifest.window, [each.at_ms for each in inputs], [each.values for each in inputs]
    )
    end_ms = BEGIN_MS + 1000 * np.arange(30, SECONDS)
    every = windows_at(manifest, steps, end_ms)
    assert 0.5 < every.is_whole.mean() < 0.99
    whole = np.flatnonzero(every.is_whole)[:WINDOWS]
    assert len(whole) == WINDOWS
    return Made(
        package,
        manifest,
        readings,
        Windows(every.end_ms[whole], every.features[whole], every.last[whole], every.is_whole[whole]),
    )


@pytest.fixture(scope="module")
def forecast(wave_work: Path) -> Made:
    return made_of(wave_work / "package")


@pytest.fixture(scope="module")
def forecaster(wave_work: Path, wave_recipe: ForecastRecipe) -> Forecaster:
    return Forecaster.load(wave_work / "model.keras", wave_recipe)


@pytest.fixture(scope="module")
def anomaly(pair_work: Path) -> Made:
    return made_of(pair_work / "package")


@pytest.fixture(scope="module")
def expected(forecast: Made, forecaster: Forecaster) -> Floats:
    """What TensorFlow tells in float, in the targets' units, [windows, targets, horizons, quantiles]."""
    told = forecaster.predict(forecast.windows.features.astype(np.float32)).astype(np.float64)
    return absolute(forecast.manifest, forecast.manifest.targets, told, forecast.windows.last)


@pytest.fixture(scope="module")
def expected_scores(pair_work: Path, pair_recipe: AnomalyRecipe, anomaly: Made) -> Floats:
    scores = Autoencoder.load(pair_work / "model.keras", pair_recipe).scores(
        anomaly.windows.features.astype(np.float32)
    )
    return scores.astype(np.float64)


def as_the_manifest_says(made: Made, form: str, runtime: str, place: Path) -> Floats:
    """What the file gives, in a runtime, of scaled windows, [windows, numbers]; for an anomaly the score."""
    mean, scale = (np.array([getattr(each, name) for each in made.manifest.features]) for name in ("mean", "scale"))
    scaled = ((made.windows.features - mean) / scale).astype(np.float32)
    np.save(place / "windows.npy", scaled)
    run, outputs = measure(runtime, made.content(form), place / "windows.npy", place)
    assert run.fault is None
    assert outputs is not None
    targets = made.manifest.targets
    if not targets:
        return np.asarray(np.square(outputs.reshape(scaled.shape) - scaled).mean(axis=(1, 2)), np.float64)
    told = outputs.reshape(WINDOWS, len(targets), 2, 3).astype(np.float64)
    for place_of, target in enumerate(targets):
        told[:, place_of] = told[:, place_of] * target.scale + target.mean
    return absolute(made.manifest, targets, told, made.windows.last)


def at(at_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC)


async def on_the_device(made: Made, form: Form) -> Floats:
    """What the agent's own process for models tells of the readings as they come, [windows, numbers]."""
    config = ModelConfig(
        name="m", directory=made.package, inputs={name: f"plant/{name}" for name in made.manifest.sources}, form=form
    )
    settings, feed = settings_of(read_package(made.package, ()), config), Feed(made.manifest, config)
    windows = [
        WindowToRun(settings, end_ms, *feed.window(end_ms))
        for end_ms in fed(feed, made.readings)
        if end_ms in set(made.windows.end_ms.tolist())
    ]
    async with started(InferenceConfig(nice=0)) as process:
        chosen = await process.load(settings)
        assert chosen.form == form
        outcomes = [outcome async for part in parts(windows) async for outcome in process.run(part)]
    assert [outcome.no_window or outcome.failed for outcome in outcomes] == [None] * WINDOWS
    return np.array([outcome.numbers for outcome in outcomes], np.float64)


def fed(feed: Feed, readings: Sequence[Readings]) -> Iterator[int]:
    """The ends of windows, each when all readings before it are in."""
    rings = {
        metric: [ring for (_, name), ring in feed.rings if name == metric] for metric in {r.metric for r in readings}
    }
    every = sorted(
        (int(at_ms), each.metric, float(value))
        for each in readings
        for at_ms, value in zip(each.at_ms, each.values, strict=True)
    )
    end_ms = BEGIN_MS + 1000
    for at_ms, metric, value in every:
        while at_ms >= end_ms:
            yield end_ms
            end_ms += 1000
        for ring in rings[metric]:
            ring.put(at_ms, value, good=np.isfinite(value))
    yield end_ms


async def parts(windows: Sequence[WindowToRun]) -> AsyncIterator[Sequence[WindowToRun]]:
    """A few at once, as the agent sends them."""
    for begin in range(0, len(windows), 8):
        yield windows[begin : begin + 8]


def away(told: Floats, expected: Floats, manifest: Manifest) -> Floats:
    """The differences in shares of the targets' scales."""
    scale = np.array([each.scale for each in manifest.targets])[:, None, None]
    return np.abs(told.reshape(expected.shape) - expected) / scale


@pytest.mark.parametrize("runtime", runtimes())
def test_tflite_forecasts_as_tensorflow_does(forecast: Made, expected: Floats, runtime: str, tmp_path: Path) -> None:
    for form, bound in (("float32", FLOAT), ("int8", INT8)):
        found = away(as_the_manifest_says(forecast, form, runtime, tmp_path), expected, forecast.manifest)
        assert found.max() < bound
        assert found.mean() < INT8_MEAN
        # Or it would not be int8 that was run.
        assert bool(found.max() > 10 * FLOAT) == (form == "int8")


def test_the_device_forecasts_as_tensorflow_does(forecast: Made, expected: Floats, tmp_path: Path) -> None:
    for form, bound in (("float32", FLOAT), ("int8", INT8)):
        told = asyncio.run(on_the_device(forecast, form))
        assert away(told, expected, forecast.manifest).max() < bound
        same = as_the_manifest_says(forecast, form, runtimes()[0], tmp_path)
        # The same file in the same runtime: what differs is how windows come about and results are told.
        assert away(told, same, forecast.manifest).max() < FLOAT


def test_the_cloud_forecasts_as_tensorflow_does(forecast: Made, expected: Floats) -> None:
    told = ServedModel.load(read_served(forecast.package)).forecast(forecast.windows)
    assert away(told, expected, forecast.manifest).max() < FLOAT


def test_spark_forecasts_as_tensorflow_does(spark: SparkSession, forecast: Made, expected: Floats) -> None:
    rows = [
        ("n", each.metric, at(int(at_ms)), value, 0 if np.isnan(value) else 192)
        for each in forecast.readings
        for at_ms, value in zip(each.at_ms, each.values.tolist(), strict=True)
    ]
    readings = spark.createDataFrame(
        rows, "node string, metric string, sampled_at timestamp, value double, quality smallint"
    )
    ends = spark.createDataFrame(
        [("n", at(int(end_ms))) for end_ms in forecast.windows.end_ms], "node string, made_at timestamp"
    )
    made = forecasts(readings, ends, read_served(forecast.package), ["node"], shards=1)
    found = sorted(made.collect(), key=lambda row: (row.made_at, row.target, row.horizon))
    told = np.array([[row.p10, row.p50, row.p90] for row in found]).reshape(WINDOWS, 2, 2, 3)
    assert sorted(each.name for each in forecast.manifest.targets) == ["restlessness", "wave"]
    assert away(told[:, ::-1], expected, forecast.manifest).max() < FLOAT


@pytest.mark.parametrize("runtime", runtimes())
def test_tflite_scores_as_tensorflow_does(anomaly: Made, expected_scores: Floats, runtime: str, tmp_path: Path) -> None:
    for form, bound, mean in (("float32", FLOAT, FLOAT), ("int8", SCORE_INT8, SCORE_INT8_MEAN)):
        found = np.abs(as_the_manifest_says(anomaly, form, runtime, tmp_path) / expected_scores - 1)
        assert found.max() < bound
        assert found.mean() < mean


def test_the_device_scores_as_tensorflow_does(anomaly: Made, expected_scores: Floats) -> None:
    for form, bound in (("float32", FLOAT), ("int8", SCORE_INT8)):
        told = asyncio.run(on_the_device(anomaly, form))
        assert np.abs(told[:, 0] / expected_scores - 1).max() < bound
        assert told[:, 1:].sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_the_cloud_scores_as_tensorflow_does(anomaly: Made, expected_scores: Floats) -> None:
    scores, shares = ServedModel.load(read_served(anomaly.package)).score(anomaly.windows)
    assert np.abs(scores / expected_scores - 1).max() < FLOAT
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-6)
