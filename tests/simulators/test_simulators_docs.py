from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml

from contract.config import Config, parse_config, read_config
from simulators.fleet.command import add_fleet
from simulators.fleet.config import BrokerConfig, FleetConfig
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
    assert len(parse_config(sample("targets"), Targets, "docs").root) == 5


@pytest.mark.parametrize("command", ["serve", "points", "fault", "counts", "fleet", "reconcile"])
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


def test_the_sample_of_a_fleet_shows_every_key() -> None:
    document = sample("fleet")
    fleet = parse_config(document, FleetConfig, "docs")
    assert set(FleetConfig.model_fields) == set(document)
    assert set(BrokerConfig.model_fields) - set(document["broker"]) == {"password_env"}
    for name, part in fleet:
        for one in part if isinstance(part, tuple) else (part,):
            if isinstance(one, Config) and name != "broker":
                assert set(type(one).model_fields) <= set(re.findall(r"\w+", str(document[name])))
            if isinstance(one, Config):
                assert f"`{name}`" in PAGE or name == "broker"


def test_the_options_of_a_fleet_are_on_the_page_or_are_keys_of_it() -> None:
    parser = argparse.ArgumentParser()
    add_fleet(parser)
    elsewhere = {"--help", "--username", "--password-file", "--group"}
    for option in set(parser._option_string_actions) - elsewhere - {"-h"}:
        assert option in PAGE


def test_the_scenario_of_a_fleet_has_everything() -> None:
    fleet = read_config(Path("simulators/scenarios/fleet.yaml"), FleetConfig)
    assert fleet.nodes == 500
    assert all([fleet.churn, fleet.outages, fleet.node_outages, fleet.site_outages, fleet.clocks, fleet.slow])


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
