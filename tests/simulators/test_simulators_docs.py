from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml

from contract.config import parse_config, read_config
from simulators.plant import BusConfig
from simulators.plant.bus_config import RunConfig
from simulators.plant.faults import AnyFault, Kind
from simulators.plant.limits import Limits
from simulators.plant.line_config import LineConfig
from simulators.reconcile_targets import Target, Targets
from simulators.scenario import Scenario
from simulators.simulator import SimulatorConfig

if TYPE_CHECKING:
    from simulators.plant.line_faults import TimedFault

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


@pytest.mark.parametrize("command", ["serve", "points", "fault", "counts", "reconcile"])
def test_commands_are_on_the_page(command: str) -> None:
    assert f"python -m simulators {command}" in PAGE


@pytest.mark.parametrize("name", ["bus", "line"])
def test_samples_of_lines_show_every_key(name: str) -> None:
    document = sample(name)
    (simulator,) = parse_config(document, Scenario, "docs").simulators
    assert isinstance(simulator, BusConfig)
    (found,) = document["simulators"]
    if name == "bus":
        assert set(BusConfig.model_fields) - set(LineConfig.model_fields) <= set(found)
        assert set(RunConfig.model_fields) <= {key for run in found["points"] for key in run}
    else:
        assert set(Limits.model_fields) == set(found["limits"])
        assert set(LineConfig.model_fields) - set(SimulatorConfig.model_fields) - set(found) == {"device"}


def test_the_bench_scenario_is_a_thousand_points_over_ten_units() -> None:
    (bench,) = read_config(Path("simulators/scenarios/bench.yaml"), Scenario).simulators
    assert isinstance(bench, BusConfig)
    assert [len(points) for points in bench.units().values()] == [100] * 10


@pytest.mark.parametrize("fault", get_args(AnyFault))
def test_every_fault_is_on_the_page_with_its_settings(fault: type[TimedFault]) -> None:
    (row,) = re.findall(rf"^\| `{fault.model_fields['kind'].default}` \|.*$", PAGE, re.MULTILINE)
    for setting in set(fault.model_fields) - {"kind", "start_s", "duration_s", "unit_id", "share"}:
        assert f"`{setting}`" in row


def test_every_fault_but_that_of_an_address_can_be_drawn() -> None:
    kinds = {fault.model_fields["kind"].default for fault in get_args(AnyFault)}
    assert set(get_args(Kind)) == kinds - {"forbidden_address"}


def test_the_keys_of_targets_are_on_the_page() -> None:
    for key in Target.model_fields:
        assert f"{key}:" in PAGE
