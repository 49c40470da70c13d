from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import simulators
from contract.config import ConfigError, parse_config, read_config
from simulators.plant import PlantConfig
from simulators.scenario import Scenario

# A fleet's scenario is of another kind.
SHIPPED = sorted(
    path for path in (Path(simulators.__file__).parent / "scenarios").glob("*.yaml") if path.name != "fleet.yaml"
)


def scenario_of(*found: dict[str, Any], **keys: Any) -> Scenario:
    return parse_config({"ledger_dir": "ledgers", "simulators": list(found), **keys}, Scenario, "test.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_scenarios_are_right(path: Path) -> None:
    assert read_config(path, Scenario).simulators


def test_the_demo_has_every_kind_of_source() -> None:
    (demo,) = (path for path in SHIPPED if path.name == "demo.yaml")
    assert {one.type for one in read_config(demo, Scenario).simulators} == {"plant", "exchange", "weather", "camera"}


def test_the_seed_is_passed_on_to_those_that_have_none() -> None:
    scenario = scenario_of({"type": "plant", "name": "a"}, {"type": "plant", "name": "b", "seed": 3}, seed=9)
    assert [one.seed for one in scenario.simulators] == [9, 3]
    assert [one.seed for one in scenario_of({"type": "plant", "name": "a"}).simulators] == [1]


def test_each_ledger_has_its_own_file() -> None:
    assert scenario_of({"type": "plant", "name": "a"}).ledger_path("a") == Path("ledgers/a.jsonl")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([{"type": "plant", "name": "a"}, {"type": "plant", "name": "a"}], "a is the name of 2 simulators"),
        ([{"type": "reactor", "name": "a"}], r"simulators\.0: found .*'plant'"),
        ([{"type": "plant"}], r"simulators\.0\.plant\.name: is missing"),
        ([{"type": "plant", "name": "a/b"}], r"simulators\.0\.plant\.name: found 'a/b'"),
        ([{"type": "plant", "name": "a", "prot": 1}], r"plant\.prot: is not a known key"),
        ([{"type": "plant", "name": "a", "faults": [{"kind": "flood"}]}], r"faults\.0: found .*'leak'"),
        (
            [{"type": "plant", "name": "a", "faults": [{"kind": "stuck_sensor", "point": "tank9/level"}]}],
            r"stuck_sensor\.point: found 'tank9/level': allowed are the plant's points",
        ),
        (
            [{"type": "plant", "name": "a", "faults": [{"kind": "stuck_sensor", "point": "intake/alarm_word"}]}],
            "share their register with no other",
        ),
        (
            [{"type": "plant", "name": "a", "faults": [{"kind": "busy", "unit_id": 9}]}],
            "allowed are the units 1, 2, 3, 4",
        ),
        ([], "simulators: found"),
    ],
)
def test_a_wrong_scenario_says_where_and_what(found: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scenario_of(*found)


def test_random_faults_come_from_the_seed() -> None:
    def drawn(seed: int) -> tuple[Any, ...]:
        keys = {"random_faults": {"mean_pause_s": 20, "kinds": ["leak", "busy"]}}
        (plant,) = scenario_of({"type": "plant", "name": "a", "seed": seed, **keys}).simulators
        assert isinstance(plant, PlantConfig)
        return plant.scheduled_faults()

    assert drawn(1) == drawn(1) != drawn(2)
    assert {fault.kind for fault in drawn(1)} == {"leak", "busy"}
    starts = [fault.start_s for fault in drawn(1)]
    assert starts == sorted(starts)
    assert starts[0] > 0
    assert starts[-1] < 3600
