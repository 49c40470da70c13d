from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from contract.config import parse_config
from simulators.plant.faults import Kind
from simulators.reconcile_targets import Target, Targets
from simulators.scenario import Scenario

PAGE = (Path(__file__).parents[2] / "docs" / "simulators.md").read_text()


def sample(name: str) -> Any:
    (found,) = re.findall(rf"^```yaml {name}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return yaml.safe_load(found)


def test_samples_are_right() -> None:
    assert {one.type for one in parse_config(sample("scenario"), Scenario, "docs").simulators} == {
        "plant",
        "exchange",
        "weather",
        "camera",
    }
    assert len(parse_config(sample("targets"), Targets, "docs").root) == 4


@pytest.mark.parametrize("command", ["serve", "points", "fault", "reconcile"])
def test_commands_are_on_the_page(command: str) -> None:
    assert f"python -m simulators {command}" in PAGE


def test_faults_with_their_settings_and_targets_with_theirs_are_on_the_page() -> None:
    for kind in get_args(Kind):
        assert f"| `{kind}` |" in PAGE
    for key in Target.model_fields:
        assert f"{key}:" in PAGE
