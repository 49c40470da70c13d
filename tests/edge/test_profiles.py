"""Device profiles: each parses and plans within its limits; how configuration, command and document have them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contract.config import ConfigError, parse_config
from edge.__main__ import main
from edge.sources import ModbusConfig
from edge.sources.modbus.points import BIT_TABLES
from edge.sources.modbus.profile import Profile, load_profile, profile_names

# What has no unit of its own, or is a text, a bit or a number that means something else.
UNITLESS = re.compile(r"power_factor|status/|device/|relay/|input/|output/|flag/|counter/|analog_|battery/state")


@pytest.mark.parametrize("name", profile_names())
def test_the_plan_stays_within_the_limits_of_the_device(name: str) -> None:
    profile = load_profile(name)
    read = Counter(point.name for block in profile.blocks() for point in block.points)
    assert read == {point.name: 1 for point in profile.points}
    for block in profile.blocks():
        assert block.unit_id == profile.unit_id
        assert block.count <= (profile.max_bits if block.table in BIT_TABLES else profile.max_registers)
        for wall in profile.forbidden:
            assert wall.table != block.table or not wall.first < block.address + block.count <= wall.last


@pytest.mark.parametrize("name", profile_names())
def test_what_is_measured_has_a_unit_and_says_what_it_is(name: str) -> None:
    profile = load_profile(name)
    assert profile.serial is not None or profile.tcp
    for point in profile.points:
        assert re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)*", point.name), point.name
        assert point.description, point.name
        assert (point.unit is None) == (UNITLESS.match(point.name) is not None), point.name


def test_a_name_has_the_same_unit_in_all_profiles() -> None:
    units: dict[str, set[str | None]] = {}
    for name in profile_names():
        for point in load_profile(name).points:
            units.setdefault(point.name, set()).add(point.unit)
    assert {name: found for name, found in units.items() if len(found) > 1} == {}
    assert {unit for found in units.values() for unit in found} & {"kW", "kvar", "kVA", "Wh", "varh"} == set()


# In a configuration


def line_config(*units: dict[str, Any], port: int = 502) -> ModbusConfig:
    document = {"type": "modbus", "name": "m", "interval_s": 5, "host": "127.0.0.1", "port": port, "units": units}
    return parse_config(document, ModbusConfig, "edge.yaml")


def test_a_unit_takes_what_its_profile_says_unless_it_says_so_itself() -> None:
    own = {"name": "door", "table": "discrete", "address": 0, "datatype": "bool"}
    only = ["voltage/*", "frequency"]
    meter = {
        "profile": "eastron-sdm630",
        "unit_id": 7,
        "max_gap": 0,
        "only": only,
        "prefix": "meter1/",
        "points": [own],
    }
    config = line_config(meter, {"profile": "sma-sunny-tripower"})
    first, second = config.units
    assert (first.unit_id, first.max_registers, first.max_gap, second.unit_id) == (7, 80, 0, 3)
    names = [point.name for point in first.points]
    assert names == [f"meter1/voltage/{phase}" for phase in ("l1", "l2", "l3")] + [
        "meter1/frequency",
        "meter1/voltage/l1_l2",
        "meter1/voltage/l2_l3",
        "meter1/voltage/l3_l1",
        "door",
    ]
    assert {info.name for info in config.metrics()} > {"meter1/frequency", "power/active/l1", "door"}


def test_a_name_of_the_profile_given_again_is_refused() -> None:
    own = {"name": "hall/temperature/air", "table": "input", "address": 9, "datatype": "int16"}
    with pytest.raises(ConfigError, match="point name hall/temperature/air stands here twice"):
        line_config({"profile": "xy-md02", "prefix": "hall/", "points": [own]})


@pytest.mark.parametrize(
    ("unit", "key"), [({}, "points"), ({"profile": 3}, "profile"), ({"profile": "xy-md02", "only": "x"}, "only")]
)
def test_what_is_no_profile_is_told_as_any_wrong_key_is(unit: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^edge.yaml: units.0.{key}: "):
        line_config({"unit_id": 3} | unit)


@pytest.mark.parametrize(
    ("unit", "complaint"),
    [
        ({"profile": "eastron"}, "found 'eastron', allowed: abb-b23, .*xy-md02"),
        ({"profile": "../points"}, "allowed: abb-b23"),
        ({"profile": "xy-md02", "only": ["humidity"]}, "'humidity', profile xy-md02 has: temperature/air, hum"),
    ],
)
def test_a_profile_or_point_that_is_none_is_refused_with_those_there_are(unit: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"^edge.yaml: units.0: found .*{complaint}"):
        line_config(unit)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"points": [{"name": "a", "address": 0}, {"name": "a", "address": 1}]}, "a stands here twice"),
        ({"forbidden": [{"table": "input", "first": 0, "last": 0}]}, "0 to 0 are forbidden"),
        ({"points": {}}, "points a list"),
        ({"source": None}, "source"),
        ({"kind": "toaster"}, "kind"),
    ],
)
def test_a_wrong_profile_is_refused(change: dict[str, Any], complaint: str) -> None:
    document = {
        "manufacturer": "m",
        "models": ["x"],
        "kind": "relay",
        "source": {"title": "t", "edition": "1", "part": "2"},
        "defaults": {"table": "input", "datatype": "int16"},
        "points": [{"name": "a", "address": 0}],
    }
    assert parse_config(document, Profile, "x.yaml").points[0].table == "input"
    with pytest.raises(ConfigError, match=complaint):
        parse_config(document | change, Profile, "x.yaml")


# The command and the document


def test_the_library_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()[1:]] == profile_names()


def test_a_profile_is_told_with_its_source_and_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "sma-sunny-tripower"]) == 0
    told = capsys.readouterr().out
    for words in ("SMA-Modbus-general-TI-en-10", "unit id 3", "all points: 6", "power/active/l1", "30777"):
        assert words in told


def test_a_profile_that_is_none_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "toaster"]) == 2
    assert "found 'toaster', allowed: abb-b23" in capsys.readouterr().err


def test_the_document_lists_the_library() -> None:
    document = (Path(__file__).parents[2] / "docs" / "modbus-profiles.md").read_text(encoding="utf-8")
    rows = {
        f"| `{name}` | {profile.kind} | {profile.manufacturer} {', '.join(profile.models)} | {len(profile.points)} | "
        f"{profile.source.title}, {profile.source.edition}, {profile.source.part} |"
        for name in profile_names()
        for profile in [load_profile(name)]
    }
    rows |= {f"| `{name}` | {what} |" for name in profile_names() if (what := load_profile(name).unchecked)}
    assert {line for line in document.splitlines() if line.startswith("| `")} == rows
