from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEVICE = ("g", "n", "tank-here")
BOTH = {"model": "tank", "devices": ["g/*/plant"], "edge": "{group}/{node}/{model}-here", "season_s": 10}
OUTPUT = {
    "kind": "forecast",
    "targets": [{"name": "level", "of": ["level"], "unit": "m"}, {"name": "flow", "of": ["flow"]}],
    "horizons": [1, 3],
    "quantiles": [0.1, 0.5, 0.9],
}
LANDED = (
    "select {made}, target, horizon_s, quantiles, version from forecast join forecaster using (forecaster_id) "
    "where place = 'edge' order by made_at, target, horizon_s"
)


def store(plant: Any, seconds: range) -> None:
    plant.store("level", {second + 0.25: 5 + math.sin(second / 7) for second in seconds})
    plant.store("flow", {second + 0.25: 2 + math.cos(second / 5) for second in seconds})


def tell(plant: Any, seconds: range, version: str = "2") -> None:
    """What an agent's model tells each second."""
    for number, target in enumerate(("level", "flow")):
        for horizon in (1, 3):
            for place, quantile in enumerate(("p10", "p50", "p90")):
                values = {float(second): 100 * number + second + horizon + place / 10 for second in seconds}
                plant.store(f"{target}/{horizon}s/{quantile}", values, DEVICE)
    plant.store("model/version", {float(second): version for second in seconds}, DEVICE)


def landed(plant: Any) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = plant.rows(LANDED.format(made=plant.second("made_at")))
    return rows


def test_forecasts_of_devices_land_beside_those_made_here_and_are_scored_as_they_are(
    plant: Any, rounds: Any, package: Callable[..., Path]
) -> None:
    package("forecast", output=OUTPUT)
    store(plant, range(20))
    tell(plant, range(15, 20))
    rounds([BOTH])()
    found = landed(plant)
    assert len(found) == 5 * 4
    assert found[0] == (15.0, "flow", 1.0, pytest.approx([116.0, 116.1, 116.2]), "2")
    assert found[2] == (15.0, "level", 1.0, pytest.approx([16.0, 16.1, 16.2]), "2")
    who = plant.rows("select place, unit, series_id from forecaster where target = 'level' order by place")
    assert who == [("cloud", "m", plant.series("level")), ("edge", "m", plant.series("level"))]
    store(plant, range(20, 24))
    rounds([BOTH], catch_up=1)()
    scored = plant.rows(
        "select place, actual, error, naive_error, seasonal_error, is_covered from forecast_score "
        f"join forecaster using (forecaster_id) where target = 'level' and {plant.second('made_at')} = 19 "
        "and horizon_s = 3 order by place"
    )
    (_, *cloud), (_, *edge) = scored
    assert (cloud[0], *cloud[2:4]) == (edge[0], *edge[2:4])
    assert edge[1] == pytest.approx(5 + math.sin(21 / 7) - 22.1)
    assert edge[4] is False


def test_what_comes_late_lands_and_nothing_twice(plant: Any, rounds: Any, package: Callable[..., Path]) -> None:
    package("forecast", output=OUTPUT)
    store(plant, range(20))
    once = rounds([{**BOTH, "cloud": False}])
    tell(plant, range(100, 110), version="3")
    once()
    assert len(landed(plant)) == 10 * 4
    # It was cut off: what it made meanwhile comes later, and so does its version.
    tell(plant, range(40, 60))
    once()
    once()
    found = landed(plant)
    assert [row[0] for row in found[::4]] == [*range(40, 60), *range(100, 110)]
    assert [row[4] for row in found[::4]] == ["2"] * 20 + ["3"] * 10
    # Another run has nothing to add, and what an agent tells a second time is what it told.
    progress = rounds([BOTH])()
    assert progress.models["tank 3"].forecasts == 4  # of the one window that was made here
    assert len(landed(plant)) == 30 * 4


def test_what_is_older_than_is_looked_for_is_left_alone(plant: Any, rounds: Any, package: Callable[..., Path]) -> None:
    package("forecast", output=OUTPUT)
    plant.begin_s -= 1200
    store(plant, range(20))
    tell(plant, range(10, 12))
    rounds([BOTH], late_s=60)()
    assert landed(plant) == []


def test_a_result_without_all_of_its_quantiles_is_none(plant: Any, rounds: Any, package: Callable[..., Path]) -> None:
    package("forecast", output=OUTPUT)
    store(plant, range(20))
    tell(plant, range(10, 12))
    plant.store("level/1s/p10", {20.0: 1.0, 21.0: None}, DEVICE)
    plant.store("level/1s/p50", {20.0: 1.0, 21.0: None}, DEVICE)
    rounds([BOTH])()
    assert [row[0] for row in landed(plant)] == [10.0] * 4 + [11.0] * 4
