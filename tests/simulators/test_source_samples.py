from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from contract.config import parse_config
from simulators.api_faults import ApiFault
from simulators.camera import CameraConfig
from simulators.camera.incidents import IncidentKind, IncidentSchedule
from simulators.exchange import ExchangeConfig
from simulators.exchange.history import COLUMNS
from simulators.scenario import Scenario
from simulators.weather import WeatherConfig
from simulators.weather.variables import VARIABLES

PAGE = (Path(__file__).parents[2] / "docs" / "simulators.md").read_text()


@pytest.mark.parametrize("config", [ExchangeConfig, WeatherConfig, CameraConfig])
def test_each_sample_is_a_scenario_that_shows_every_key(
    config: type[ExchangeConfig | WeatherConfig | CameraConfig],
) -> None:
    (kind,) = config.model_fields["type"].annotation.__args__  # type: ignore[union-attr]  # a Literal
    found = re.search(rf"```yaml {kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    document = yaml.safe_load(found[1])
    (simulator,) = parse_config(document, Scenario, "docs").simulators
    assert simulator.type == kind
    shown = set(document["simulators"][0])
    described_elsewhere = {"seed", "host", "port", "replay"}
    assert set(config.model_fields) - shown <= described_elsewhere


def test_every_variable_kind_and_column_is_on_the_page() -> None:
    keys = set(IncidentSchedule.model_fields)
    for name in (*VARIABLES, *IncidentKind, *COLUMNS, *keys):
        assert re.search(rf"\b{name}\b", PAGE), f"{name} is not in docs/simulators.md"


def test_every_fault_of_an_api_is_on_the_page() -> None:
    for kind in get_args(ApiFault.model_fields["kind"].annotation):
        assert f"| `kind: {kind}` |" in PAGE
