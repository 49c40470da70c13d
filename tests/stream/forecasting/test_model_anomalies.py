from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TANK = {"model": "tank", "devices": ["g/*/plant"]}
FOUND = (
    "select {started}, {ended}, {peak}, peak_score, threshold, group_id, node_id, device_id, metric, detector, place, "
    "model, version, evidence from anomaly order by started_at, place"
)


def store(plant: Any, seconds: range, jump: range = range(0)) -> None:
    """At rest all is 0, which any net without bias gives back; a jump is not."""
    plant.store("level", {second + 0.25: 40.0 if second in jump else 0.0 for second in seconds})
    plant.store("flow", {second + 0.25: 1.0 for second in seconds})


def found(plant: Any) -> list[tuple[Any, ...]]:
    times = {name: plant.second(f"{name}_at") for name in ("started", "ended", "peak")}
    rows: list[tuple[Any, ...]] = plant.rows(FOUND.format(**times))
    return rows


def test_an_incident_is_one_row_from_its_start_to_its_end(
    plant: Any, rounds: Any, package: Callable[..., Path]
) -> None:
    package("anomaly")
    store(plant, range(20))
    rounds([TANK])()
    store(plant, range(20, 24), jump=range(21, 24))
    rounds([TANK])()
    ((started, ended, *_),) = found(plant)
    assert (started, ended) == (22.0, None)  # the window that ends at 22 is the first that has seen the step from 21 on
    # Another run: what is known of the incident stands in the database.
    store(plant, range(24, 40))
    rounds([TANK])()
    ((started, ended, peak, score, threshold, *who, evidence),) = found(plant)
    # The last window that sees a part of the jump begins with its last second.
    assert (started, ended) == (22.0, 30.0)
    assert 22 <= peak < 30
    assert score > threshold == 2.5
    assert who == ["g", "n", "plant", "", "tank", "cloud", "tank", "3"]
    assert {each["metric"] for each in evidence} == {"level", "flow (flow)"}
    assert {each["value"] for each in evidence if each["metric"] == "level"} <= {0.0, 40.0}
    assert evidence[0]["score"] >= evidence[1]["score"]
    assert sum(each["score"] for each in evidence) == pytest.approx(score, rel=1e-4)


def test_what_is_over_before_the_minimum_was_none(plant: Any, rounds: Any, package: Callable[..., Path]) -> None:
    package("anomaly")
    store(plant, range(20))
    patient = {**TANK, "minimum_s": 9}
    rounds([patient])()
    store(plant, range(20, 40), jump=range(21, 24))
    rounds([patient])()
    assert found(plant) == []
    store(plant, range(40, 70), jump=range(41, 46))
    rounds([patient])()
    assert [row[:2] for row in found(plant)] == [(42.0, 52.0)]


def tell(plant: Any, model: str, seconds: range, alarm: range, told: range | None = None) -> None:
    """As an agent's model does, a result each second: the alarm when it changes, and each ten seconds."""
    device = ("g", "n", model)
    plant.store("score", {float(s): 9.0 + s / 100 if s in alarm else 0.5 for s in seconds}, device)
    plant.store("contribution/level", {float(s): 0.75 for s in seconds}, device)
    plant.store("contribution/flow", {float(s): 0.25 for s in seconds}, device)
    plant.store("model/version", {float(s): "2" for s in seconds}, device)
    changes = {float(s): float(s in alarm) for s in seconds if s % 10 == 0 or (s in alarm) != (s - 1 in alarm)}
    plant.store("anomaly", {s: value for s, value in changes.items() if told is None or int(s) in told}, device)


def test_alarms_of_devices_land_beside_them(plant: Any, rounds: Any, package: Callable[..., Path]) -> None:
    package("anomaly")
    edge = {**TANK, "cloud": False, "edge": "{group}/{node}/{model}"}
    store(plant, range(20))
    tell(plant, "tank", range(20), alarm=range(13, 40))
    once = rounds([edge])
    once()
    assert [row[:3] for row in found(plant)] == [(13.0, None, 19.0)]
    tell(plant, "tank", range(20, 60), alarm=range(13, 40))
    once()
    ((started, ended, peak, score, threshold, *who, evidence),) = found(plant)
    assert (started, ended, peak, score, threshold) == (13.0, 40.0, 39.0, pytest.approx(9.39), 2.5)
    assert who == ["g", "n", "plant", "", "tank", "edge", "tank", "2"]
    assert [(each["metric"], each["value"]) for each in evidence] == [("level", 0.0), ("flow (flow)", 1.0)]
    assert [each["score"] for each in evidence] == pytest.approx([0.75 * 9.39, 0.25 * 9.39])


def test_alarms_come_to_the_same_in_whatever_order_they_come(
    plant: Any, rounds: Any, package: Callable[..., Path]
) -> None:
    package("anomaly")
    edge = {**TANK, "cloud": False, "edge": "{group}/{node}/{model}"}
    store(plant, range(20))
    alarm = [*range(13, 22), *range(35, 52)]
    once = rounds([edge])
    for part in (range(40, 60), range(10), range(20, 40), range(10, 20)):  # cut off, and its history came later
        tell(plant, "tank", part, alarm=alarm)  # type: ignore[arg-type]  # whatever says whether a second is in it
        once()
    assert [row[:3] for row in found(plant)] == [(13.0, 22.0, 21.0), (35.0, 52.0, 51.0)]
    assert not any(math.isnan(row[3]) for row in found(plant))
