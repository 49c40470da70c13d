"""Device and cloud see the same of random readings: ring, window and features here, `contract.windows` there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.config import parse_config
from contract.manifest import INPUTS_OF, Manifest, Transform
from contract.windows import Windows, absolute, resampled, windows_at
from edge.inference.arithmetic import NoWindowError, features_of, result_of, window_of
from edge.models.config import ModelConfig
from edge.models.feed import Feed
from edge.models.package import Package, settings_of

if TYPE_CHECKING:
    from edge.inference.settings import ModelSettings

BEGIN_MS = 1_767_571_200_000
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)
RELATIVE = (None, "difference", "log_ratio")
# Metric, UTC ms, and the value; NaN: a bad one.
Readings = list[tuple[str, int, float]]


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    step_ms = draw(st.sampled_from([100, 250, 1000, 60_000, 3_600_000]))
    length = draw(st.integers(1, 6))
    inputs = [
        {
            "name": f"x{number}",
            "metric": draw(st.sampled_from(["a", "b"])),
            "resample": draw(st.sampled_from(["last", "mean", "min", "max"])),
            "hold_s": draw(st.integers(0, length)) * step_ms / 1000,
        }
        for number in range(draw(st.integers(1, 3)))
    ]
    names = [each["name"] for each in inputs]
    features = [
        {"name": f"f{number}", "transform": transform, "of": [draw(st.sampled_from(names)) for _ in range(count)]}
        for number, transform in enumerate(draw(st.lists(st.sampled_from(TRANSFORMS), min_size=1, max_size=4)))
        for count in [INPUTS_OF[transform]]
    ]
    return manifest_of(
        inputs=inputs,
        features=features,
        window={
            "length": length,
            "step_s": step_ms / 1000,
            "max_bad_share": draw(st.sampled_from([0.0, 0.1, 0.34, 0.5])),
        },
    )


def manifest_of(**more: Any) -> Manifest:
    document = {
        "format": 1,
        "name": "m",
        "version": "1",
        "output": {"kind": "anomaly", "score": "reconstruction", "threshold": 1},
        "files": [{"form": "int8", "file": "f", "sha256": "0" * 64, "size_bytes": 1}],
    }
    return parse_config(document | more, Manifest, "m")


def device(manifest: Manifest) -> tuple[Feed, ModelSettings]:
    mapped = {source: f"s/{source}" for source in manifest.sources}
    config = parse_config({"name": "m", "directory": "d", "inputs": mapped}, ModelConfig, "c")
    return Feed(manifest, config), settings_of(Package(manifest, config.directory, ""), config)


def put(feed: Feed, metric: str, at_ms: int, value: float) -> None:
    for (_, wanted), ring in feed.rings:
        if wanted == metric:
            ring.put(at_ms, value, good=not math.isnan(value))


def on_device(feed: Feed, told: ModelSettings, end_ms: int) -> tuple[Any, Any] | None:
    """What the model sees and the inputs' last values, None where it is not asked."""
    values, states = (np.frombuffer(part, kind) for part, kind in zip(feed.window(end_ms), "dB", strict=True))
    shape = len(told.inputs), told.rows
    try:
        window = window_of(values.reshape(shape), states.reshape(shape), told)
        return features_of(window, end_ms, told), window[-1]
    except NoWindowError:
        return None


def readings_of(manifest: Manifest, begin_ms: int, span_ms: int, noise: np.random.Generator) -> Readings:
    """In the order in which they come: late ones, several of a step and of one time are among them, and few or many."""
    count, step_ms = noise.integers(8 * span_ms // manifest.window.step_ms), manifest.window.step_ms
    at_ms = noise.integers(span_ms, size=count)
    at_ms = begin_ms + np.where(noise.random(count) < 0.3, at_ms // step_ms * step_ms, at_ms)
    values = noise.lognormal(3, 2, count) * np.where(noise.random(count) < 0.01, -1, 1)
    values[noise.random(count) < 0.1 * noise.random()] = math.nan
    return list(zip(noise.choice(manifest.sources, count).tolist(), at_ms.tolist(), values.tolist(), strict=True))


def in_the_cloud(manifest: Manifest, readings: Readings, ends_ms: Any) -> Windows:
    columns = [[(at, value) for metric, at, value in readings if metric == each.source] for each in manifest.inputs]
    times = [np.array([at for at, _ in column], np.int64) for column in columns]
    values = [np.array([value for _, value in column], np.float64) for column in columns]
    return windows_at(manifest, resampled(manifest.inputs, manifest.window, times, values), ends_ms)


@settings(max_examples=500)
@given(manifests(), st.integers(0, 1 << 32))
def test_the_device_sees_what_the_cloud_sees(manifest: Manifest, seed: int) -> None:
    step_ms = manifest.window.step_ms
    feed, told = device(manifest)
    begin_ms, span_ms = BEGIN_MS // step_ms * step_ms, step_ms * (told.rows + 3)
    readings = readings_of(manifest, begin_ms, span_ms, np.random.default_rng(seed))
    for metric, at_ms, value in readings:
        put(feed, metric, at_ms, value)
    ends_ms = begin_ms + np.arange(told.rows, told.rows + 5) * step_ms
    cloud = in_the_cloud(manifest, readings, ends_ms)
    for number, end_ms in enumerate(ends_ms.tolist()):
        seen = on_device(feed, told, end_ms)
        assert (seen is not None) == cloud.is_whole[number]
        if seen is not None:
            np.testing.assert_allclose(seen[0], cloud.features[number], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(seen[1], cloud.last[number], rtol=1e-9)


@given(st.data())
def test_the_device_tells_what_the_cloud_tells(data: st.DataObject) -> None:
    number = st.floats(-3, 3, width=32)
    targets = [
        {"name": str(place), "of": ["x"], "mean": data.draw(number), "scale": 0.5, "relative": relative}
        for place, relative in enumerate(data.draw(st.lists(st.sampled_from(RELATIVE), min_size=1, max_size=3)))
    ]
    manifest = manifest_of(
        inputs=[{"name": "x", "metric": "a"}],
        features=[{"name": "x", "of": ["x"]}],
        window={"length": 1, "step_s": 1},
        output={"kind": "forecast", "targets": targets, "horizons": [1, 5], "quantiles": [0.1, 0.5, 0.9]},
    )
    _, told = device(manifest)
    count = len(targets) * 2 * 3
    output = np.array(data.draw(st.lists(number, min_size=count, max_size=count)), np.float32)
    last = np.array([data.draw(st.floats(0.01, 1e6))])
    mean, scale = (
        np.array([getattr(each, name) for each in manifest.targets])[:, None, None] for name in ("mean", "scale")
    )
    cloud = absolute(manifest, manifest.targets, (output.reshape(1, -1, 2, 3) * scale + mean), last[None])
    here = result_of(output[None], last, np.zeros((1, 1, 1), np.float32), told)
    np.testing.assert_allclose(here, cloud.reshape(-1), rtol=1e-6, atol=1e-30)
