"""The manifest of a model: what is taken, and what is said of what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.card import MAX_MANIFEST_BYTES
from contract.config import ConfigError
from contract.manifest import AnomalyOutput, ForecastOutput, forecast_metric, parse_manifest

MODELS = Path(__file__).parents[2] / "bench" / "edge" / "models"


def document(**changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "tank-forecast",
        "version": "1.0.0",
        "inputs": [{"name": "level", "unit": "m"}, {"name": "flow", "hold_s": 5}],
        "features": [
            {"name": "level", "unit": "m", "of": ["level"], "mean": 3, "scale": 0.5},
            {"name": "flow", "transform": "log_change", "of": ["flow"]},
        ],
        "window": {"length": 10, "step_s": 1.0},
        "output": {
            "kind": "forecast",
            "targets": [{"name": "level", "unit": "m", "of": ["level"], "relative": "difference"}],
            "horizons": [5, 30],
            "quantiles": [0.1, 0.5, 0.9],
        },
        "files": [{"form": "int8", "file": "int8.tflite", "sha256": "0" * 64, "size_bytes": 9}],
    } | changes


def parse(content: object) -> Any:
    return parse_manifest(json.dumps(content).encode(), "manifest.json")


ANOMALY = {"kind": "anomaly", "score": "direct", "threshold": 3.0}
FILE = {"form": "int8", "file": "a.tflite", "sha256": "0" * 64, "size_bytes": 9}
NINE = [{"name": f"i{number}"} for number in range(9)]
FORECAST = document()["output"]
SKILL = {"of": "level", "measure": "pinball", "against": "last_value", "skill": 0.2, "low": 0.1, "high": 0.3}
LEVEL = {"name": "level", "of": ["level"]}


def test_a_forecast_names_its_metrics_in_the_order_of_its_output() -> None:
    manifest = parse(document())
    assert manifest.forecast_metrics == [f"level/{h}s/p{q}" for h in (5, 30) for q in (10, 50, 90)]
    assert manifest.output.shape == (1, 2, 3)
    assert forecast_metric("price", 300_000, 0.975) == "price/300s/p97.5"
    assert forecast_metric("x", 50, 0.05) == "x/0.05s/p5"


def test_several_inputs_may_be_made_of_one_metric() -> None:
    inputs = [{"name": name, "metric": "price", "resample": name} for name in ("min", "max")] + [{"name": "volume"}]
    features = [
        {"name": "range", "transform": "log_ratio", "of": ["max", "min"]},
        {"name": "time", "transform": "day_sin"},
    ]
    manifest = parse(document(inputs=inputs, features=features, output=ANOMALY))
    assert manifest.sources == ("price", "volume")
    assert (manifest.reach, manifest.hold_steps, manifest.targets) == (0, (0, 0, 0), ())


def test_a_change_reaches_a_step_further_back_than_the_window() -> None:
    manifest = parse(document())
    assert (manifest.reach, manifest.hold_steps) == (1, (0, 5))


def test_one_form_may_be_for_two_runtimes_and_a_device_runs_one() -> None:
    keras = FILE | {"file": "model.keras", "runtime": "tensorflow"}
    assert [each.file for each in parse(document(files=[FILE, keras])).tflite_files] == ["a.tflite"]


@pytest.mark.parametrize(("low", "is_shown"), [(0.1, True), (0.0, False), (-0.1, False)])
def test_skill_is_shown_where_the_whole_interval_is_better(low: float, is_shown: bool) -> None:  # noqa: FBT001 - a case
    assert parse(document(skill=[SKILL | {"low": low}])).has_skill is is_shown
    assert not parse(document()).has_skill


@pytest.mark.parametrize("name", ["tank-forecast", "pump-anomaly"])
def test_the_models_of_the_benchmark_have_manifests(name: str) -> None:
    manifest = parse_manifest((MODELS / name / "manifest.json").read_bytes(), name)
    assert manifest.name == name
    assert isinstance(manifest.output, ForecastOutput if name == "tank-forecast" else AnomalyOutput)
    assert manifest.training is not None
    assert all((MODELS / name / each.file).stat().st_size == each.size_bytes < 100_000 for each in manifest.files)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format: found 2, allowed: "),
        ({"name": "../escape"}, "name: found '../escape'"),
        ({"version": "a/b"}, "version: found 'a/b'"),
        ({"surprise": 1}, "surprise: is not a known key"),
        ({"inputs": []}, "inputs: found []"),
        ({"inputs": [{"name": "level"}, {"name": "level"}]}, "inputs must be unique, given more than once: level"),
        ({"inputs": [{"name": "level", "mean": 3}]}, "inputs.0.mean: is not a known key"),
        ({"inputs": [{"name": "level", "resample": "median"}]}, "inputs.0.resample: found 'median'"),
        (
            {"inputs": [{"name": "level", "hold_s": 11}, {"name": "flow"}]},
            "input level: hold_s 11 is longer than the window",
        ),
        ({"inputs": [{"name": f"i{n}"} for n in range(65)]}, "inputs: "),
        (
            {"window": {"length": 8192, "step_s": 1}, "inputs": NINE, "features": [{"name": "x", "of": ["i0"]}]},
            "73728 values: allowed are 65536",
        ),
        ({"features": []}, "features: found []"),
        ({"features": [LEVEL, LEVEL]}, "features must be unique, given more than once: level"),
        ({"features": [LEVEL | {"scale": 0}]}, "features.0.scale: found 0"),
        ({"features": [LEVEL | {"mean": float("nan")}]}, "features.0.mean: found nan"),
        ({"features": [LEVEL | {"of": ["none"]}]}, "level: none is none of the inputs"),
        ({"features": [LEVEL | {"transform": "sqrt"}]}, "features.0.transform: found 'sqrt'"),
        ({"features": [LEVEL | {"transform": "log_ratio"}]}, "log_ratio of 1 inputs: allowed are 2"),
        ({"features": [LEVEL | {"transform": "day_sin"}]}, "day_sin of 1 inputs: allowed are 0"),
        ({"window": {"length": 9, "step_s": 1, "steps": "some"}}, "window.steps: found 'some'"),
        ({"window": {"length": 0, "step_s": 1}}, "window.length: found 0"),
        ({"window": {"length": 9, "step_s": 0.0105}}, "not a whole number of milliseconds"),
        ({"output": FORECAST | {"kind": "scene"}}, "a camera's model"),
        ({"output": FORECAST | {"kind": "other"}}, "output: "),
        ({"output": FORECAST | {"horizons": [5, 5]}}, "each must be greater than the one before: 5, 5"),
        ({"output": FORECAST | {"quantiles": [0.5, 0.1]}}, "each must be greater than the one before: 0.5, 0.1"),
        ({"output": FORECAST | {"quantiles": [1.0]}}, "output.forecast.quantiles.0: found 1.0"),
        ({"output": FORECAST | {"targets": [LEVEL | {"of": ["none"]}]}}, "level: none is none of the inputs"),
        ({"output": FORECAST | {"targets": [LEVEL, LEVEL]}}, "targets must be unique, given more than once: level"),
        (
            {"output": FORECAST | {"targets": [{"name": "x", "transform": "week_cos"}]}},
            "target x: week_cos is known beforehand",
        ),
        (
            {"output": FORECAST | {"targets": [LEVEL | {"over": "rms", "relative": "log_ratio"}]}},
            "target level: relative is for a value at a step alone",
        ),
        ({"output": FORECAST | {"horizons": list(range(1, 65)), "quantiles": [n / 22 for n in range(1, 22)]}}, "1344"),
        ({"output": ANOMALY | {"clear": 4.0}}, "clear is 4: allowed is at most the threshold, 3"),
        ({"output": ANOMALY | {"threshold": 0}}, "output.anomaly.threshold: found 0"),
        ({"files": []}, "files: found []"),
        ({"files": [FILE | {"file": "../../etc/passwd"}]}, "files.0.file: found '../../etc/passwd'"),
        ({"files": [FILE | {"file": ".."}]}, "files.0.file: found '..'"),
        ({"files": [FILE | {"sha256": "F" * 64}]}, "files.0.sha256: "),
        ({"files": [FILE | {"size_bytes": 1 << 40}]}, "files.0.size_bytes: "),
        ({"files": [FILE, FILE | {"form": "float32"}]}, "files must be unique"),
        ({"files": [FILE, FILE | {"file": "b.tflite"}]}, "forms must be unique"),
        ({"files": [FILE | {"runtime": "onnx"}]}, "files.0.runtime: found 'onnx'"),
        ({"metrics": {"pinball": float("inf")}}, "metrics.pinball: found inf"),
        ({"skill": [SKILL | {"skill": 1.5}]}, "skill.0.skill: found 1.5"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document(**changes))
    (line,) = str(caught.value).splitlines()
    assert line.startswith("manifest.json: ")
    assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff\x00", "is not JSON"),
        (b"[" * 60_000, "is not JSON"),
        (b"[]", "(top level)"),
        (b'{"format": 1, "format": 1}', "keys must be unique, given more than once: format"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "is larger than 65536 bytes"),
    ],
)
def test_what_is_no_manifest_at_all(text: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^m: ") as caught:
        parse_manifest(text, "m")
    assert said in str(caught.value)
