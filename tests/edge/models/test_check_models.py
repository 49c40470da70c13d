"""What `check` says of models, and that the docs name all there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from contract.manifest import ANOMALY, CONTRIBUTION, SCORE, VERSION
from edge.__main__ import main
from edge.cli.command import load
from edge.estimate import costs
from edge.models import InferenceConfig, ModelConfig
from edge.models.telling import STATE

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "bench" / "edge" / "models"
DOCS = (ROOT / "docs" / "models-on-device.md").read_text()
UNITS = {"level": "m", "flow": "m3/h"}


def document(**more: Any) -> dict[str, Any]:
    names = ["tank2/level", "tank1/level", "intake/flow", "pump1/flow", "pump2/flow"]
    points = [
        {
            "name": name,
            "table": "input",
            "address": 2 * at,
            "datatype": "float32",
            "unit": UNITS[name.partition("/")[2]],
        }
        for at, name in enumerate(names)
    ]
    line = {"type": "modbus", "name": "plant", "interval_s": 1, "host": "127.0.0.1"}
    model = {
        "name": "level",
        "directory": str(MODELS / "tank-forecast"),
        "inputs": {name: f"plant/{name}" for name in names},
        "every_s": 10,
    }
    return {
        "group": "g",
        "node": "n",
        "state_dir": "state",
        "mqtt": {"host": "127.0.0.1"},
        "sources": [line | {"units": [{"unit_id": 1, "points": points}]}],
        "models": [model | more],
    }


def check(tmp_path: Path, *arguments: str, **more: Any) -> int:
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(document(**more)))
    return main(["check", *arguments, str(path)])


def test_a_model_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path) == 0
    shown = capsys.readouterr().out
    assert "tank-forecast 1.0.0, forecast; float32 (23.2 KiB), int8 (9.81 KiB)" in shown
    assert "every 10 s, by the 60 steps of 1 s before; no result where over 10% is missing" in shown
    assert "tank2/level is plant/tank2/level, the mean of a step, in m" in shown
    assert "tells level in 5 s, 15 s, 30 s: p10, p50, p90" in shown
    assert "level/level/30s/p90" in shown


def test_its_results_are_among_the_costs(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(document()))
    cost = next(cost for cost in costs(load(path)) if cost.device == "level")
    assert (cost.interval_s, cost.metrics) == (10, 11)


def test_a_model_that_would_be_refused_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, directory=str(MODELS / "pump-anomaly")) == 1
    assert "edge: model level: inputs says nothing of pump1/speed" in capsys.readouterr().err
    assert check(tmp_path, "--elsewhere", directory=str(tmp_path / "none")) == 0
    assert check(tmp_path, directory=str(tmp_path / "none")) == 2
    assert "models.0.directory" in capsys.readouterr().err


@pytest.mark.parametrize("part", [ModelConfig, InferenceConfig])
def test_the_docs_name_every_option(part: Any) -> None:
    assert [name for name, field in part.model_fields.items() if f"`{name}`" not in DOCS or not field.description] == []


def test_the_docs_name_what_is_told_and_every_state() -> None:
    forms = [form for form in get_args(ModelConfig.model_fields["form"].annotation) if form != "fastest"]
    states = ["ok", "waiting", "failing", "refused", "quarantined"]
    for word in (SCORE, ANOMALY, f"{CONTRIBUTION}/FEATURE", VERSION, STATE, *forms, *states):
        assert f"`{word}`" in DOCS


def test_the_docs_link_the_models_page() -> None:
    assert "models-on-device.md" in (ROOT / "docs" / "edge.md").read_text()
