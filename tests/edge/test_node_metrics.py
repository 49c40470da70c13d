"""What a node says of itself: what it measures, what it leaves out, and how seldom it says what hardly changes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract import __version__
from edge.clock import AnchoredClock, MachineClock
from edge.config import AgentConfig
from edge.health import node_metrics as own
from edge.health.machine import processor_celsius
from edge.intake import Intake
from edge.roster import Roster
from edge.spool import Spool, SpoolLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.datatypes import Value

DOCS = (Path(__file__).parents[2] / "docs" / "edge.md").read_text(encoding="utf-8")
POINT = {"name": "level", "table": "holding", "address": 0, "datatype": "float32"}
PLANT = {
    "type": "modbus",
    "name": "plant",
    "interval_s": 1,
    "host": "192.0.2.1",
    "units": [{"unit_id": 1, "points": [POINT]}],
}
WEATHER = {
    "type": "rest",
    "name": "weather",
    "preset": "open-meteo",
    "interval_s": 900,
    "latitude": 52.5,
    "longitude": 13.4,
    "limits": {"per_day": 200},
}
SELDOM = {"Version", "Clock Synchronised", "Clock Offset", "Disk Size", "Spool Limit", "Temperature"}
OF_SOURCES = {"plant/Line Occupancy", "weather/Quota Left Day"}


class Node:
    """An agent's parts without the agent: nothing is polled, and the time goes on by hand."""

    def __init__(self, directory: Path, **clock: Any) -> None:
        document = {"group": "g", "node": "n", "state_dir": directory, "mqtt": {"host": "127.0.0.1"}}
        self.config = AgentConfig.model_validate(document | {"sources": [PLANT, WEATHER]})
        self.at_ms = 1_800_000_000_000
        machine = MachineClock(wall_ns=lambda: self.at_ms * 1_000_000, is_synchronised=lambda: self.synchronised)
        self.synchronised = True
        self.clock = AnchoredClock(machine=machine, **clock)
        kept = Spool(directory, SpoolLimits(1 << 20, 1 << 20, 0.1), lambda: self.at_ms, lambda *_: None)  # type: ignore[arg-type]  # none is lost
        intake = Intake(kept.put, lambda: self.at_ms)
        self.roster = Roster(self.config.sources, lambda _: None, intake, lambda: self.at_ms)
        self.health = own.NodeHealth(self.config, self.clock, kept, intake, lambda: self.roster.pollers)

    def after(self, seconds: float) -> dict[str, Value]:
        """What it tells then."""
        self.at_ms += int(seconds * 1000)
        return {reading.metric.removeprefix("Health/"): reading.value for reading in self.health.news(self.at_ms, {})}


@pytest.fixture
def warmth(monkeypatch: pytest.MonkeyPatch) -> dict[str, float | None]:
    """How warm the processor is."""
    found: dict[str, float | None] = {"celsius": 51.5}
    monkeypatch.setattr(own, "processor_celsius", lambda: found["celsius"])
    return found


@pytest.fixture
def in_a_loop(tmp_path: Path) -> Callable[[Callable[[Node], None]], None]:
    """Tries something on a node, within an event loop."""

    def run(tried: Callable[[Node], None]) -> None:
        async def scenario() -> None:
            tried(Node(tmp_path))

        asyncio.run(scenario())

    return run


@pytest.mark.usefixtures("warmth")
def test_it_tells_what_its_health_page_tells_people(in_a_loop: Callable[[Callable[[Node], None]], None]) -> None:
    def tried(node: Node) -> None:
        node.roster.pollers["plant"].status.details = {"line_occupancy_ratio": 0.25}
        node.roster.pollers["weather"].status.details = {"quota_left_day": 150.0, "waits": "for tomorrow"}
        told = node.after(10)
        assert told["Version"] == __version__
        assert (told["Temperature"], told["Clock Synchronised"]) == (51.5, True)
        assert told["Spool Limit"] == node.config.spool.max_bytes
        assert 0 < told["Disk Free"] <= told["Disk Size"]  # type: ignore[operator]  # numbers both
        assert (told["plant/Line Occupancy"], told["weather/Quota Left Day"]) == (0.25, 150.0)
        born = {info.name for info in own.node_metrics(node.config.sources)}
        assert {f"Health/{name}" for name in told} == born, "a birth has each metric, and no other"

    in_a_loop(tried)


def test_what_nobody_measures_is_no_metric(
    in_a_loop: Callable[[Callable[[Node], None]], None], warmth: dict[str, float | None]
) -> None:
    warmth["celsius"] = None

    def tried(node: Node) -> None:
        assert not {"Temperature", *OF_SOURCES} & node.after(10).keys(), "not as 0"
        assert "Health/Temperature" not in {info.name for info in own.node_metrics(node.config.sources)}

    in_a_loop(tried)


def test_what_hardly_changes_is_told_when_it_has_and_every_five_minutes(
    in_a_loop: Callable[[Callable[[Node], None]], None], warmth: dict[str, float | None]
) -> None:
    def tried(node: Node) -> None:
        plant = node.roster.pollers["plant"].status
        plant.details = {"line_occupancy_ratio": 0.25}
        assert node.after(10).keys() >= SELDOM
        plant.details = {"line_occupancy_ratio": 0.26}
        warmth["celsius"] = 52.0
        assert not (SELDOM | OF_SOURCES) & node.after(10).keys()
        warmth["celsius"], node.synchronised = 53.0, False
        # Those of before the change are not sent after all: they would come late.
        told = node.after(10)
        assert (told["Temperature"], told["Clock Synchronised"]) == (53.0, False)
        assert (SELDOM | OF_SOURCES) & told.keys() == {"Temperature", "Clock Synchronised"}
        assert node.after(300).keys() >= SELDOM
        node.health.forget()
        assert node.after(10).keys() >= SELDOM, "after births"
        node.health.change(node.config)
        assert node.after(10).keys() >= SELDOM, "after a reload"

    in_a_loop(tried)


def test_while_the_time_is_not_known_nothing_is_how_far_off_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        node = Node(tmp_path, wait_s=1e9)
        node.synchronised = False
        node.clock.not_before(node.at_ms + 10**9)
        told = node.after(1)
        assert told["Clock Synchronised"] is False
        assert "Clock Offset" not in told

    asyncio.run(scenario())


def test_a_disk_that_was_taken_away_takes_only_its_own_metrics(
    in_a_loop: Callable[[Callable[[Node], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: object) -> None:
        raise OSError

    monkeypatch.setattr("shutil.disk_usage", gone)

    def tried(node: Node) -> None:
        told = node.after(10)
        assert not {"Disk Free", "Disk Size"} & told.keys()
        assert told["Spool Bytes"] == 0

    in_a_loop(tried)


def test_what_sources_are_asked_for_is_what_they_say(tmp_path: Path) -> None:
    async def scenario() -> None:
        plant, weather = Node(tmp_path).config.sources
        async with plant.open(lambda: 0) as line, weather.open(lambda: 0) as api:
            assert plant.vitals().keys() <= line.details().keys()
            assert weather.vitals().keys() <= api.details().keys()

    asyncio.run(scenario())


@pytest.mark.usefixtures("warmth")
def test_the_docs_name_each_metric_and_its_unit(in_a_loop: Callable[[Callable[[Node], None]], None]) -> None:
    def tried(node: Node) -> None:
        for info in own.node_metrics(node.config.sources):
            name = re.sub("plant|weather", "SOURCE", info.name)
            (row,) = [line for line in DOCS.splitlines() if line.startswith("| `Health/") and f"`{name}`" in line]
            assert (info.unit or "") in row.split("|")[2]

    in_a_loop(tried)


@pytest.mark.parametrize(
    ("zones", "celsius"),
    [
        ({"acpitz": "27800", "x86_pkg_temp": "61000", "iwlwifi_1": "90000"}, 61.0),
        ({"cpu0-thermal": "48312", "cpu1-thermal": "49100"}, 49.1),
        ({"soc-thermal": "-274000", "battery": "31000"}, 31.0),
        ({"acpitz": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_processor_is_as_warm_as_its_warmest_zone(
    tmp_path: Path, zones: dict[str, str], celsius: float | None
) -> None:
    for number, (kind, millidegrees) in enumerate(zones.items()):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(f"{kind}\n")
        (zone / "temp").write_text(f"{millidegrees}\n")
    (tmp_path / "thermal_zone9").mkdir()
    (tmp_path / "cooling_device0").mkdir()
    assert processor_celsius(tmp_path) == celsius
    assert processor_celsius(tmp_path / "none") is None
