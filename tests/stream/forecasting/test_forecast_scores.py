from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A season of 10 steps.
TANK = {"model": "tank", "devices": ["g/*/plant"], "season_s": 10}
OUTPUT = {
    "kind": "forecast",
    "targets": [{"name": "level", "of": ["level"], "relative": "difference"}, {"name": "flow", "of": ["flow"]}],
    "horizons": [1, 3],
    "quantiles": [0.1, 0.5, 0.9],
}
FOUND = (
    "select target, {made}, horizon_s, p10, p50, p90, actual, pinball, is_covered, error, naive_error, seasonal_error "
    "from forecast_score join forecast using (forecaster_id, made_at, horizon_s) "
    "join forecaster using (forecaster_id) order by target, made_at, horizon_s"
)


def level(second: float) -> float:
    return 5 + math.sin(second / 7)


def flow(second: float) -> float:
    return 2 + math.cos(second / 5)


def store(plant: Any, seconds: range) -> None:
    plant.store("level", {second + 0.25: level(second) for second in seconds})
    plant.store("flow", {second + 0.25: flow(second) for second in seconds})


def test_values_are_scored_when_their_time_has_come(plant: Any, rounds: Any, package: Callable[..., Path]) -> None:
    package("forecast", output=OUTPUT)
    store(plant, range(20))
    rounds([TANK])()
    assert plant.rows(FOUND.format(made=plant.second("made_at"))) == []
    store(plant, range(20, 21))
    rounds([TANK], catch_up=1)()
    # What was made at 19 for 20 alone: what the step from 19 on was is known at 20.
    assert [row[:3] for row in plant.rows(FOUND.format(made=plant.second("made_at")))] == [
        ("flow", 19.0, 1.0),
        ("level", 19.0, 1.0),
    ]
    store(plant, range(21, 25))
    rounds([TANK], catch_up=1)()
    rounds([TANK], catch_up=1)()
    found = plant.rows(FOUND.format(made=plant.second("made_at")))
    assert [row[1:3] for row in found if row[0] == "level"] == [(19.0, 1.0), (19.0, 3.0), (20.0, 1.0), (20.0, 3.0)]
    for target, made, horizon, p10, p50, p90, came, loss, is_covered, error, naive, seasonal in found:
        value = {"level": level, "flow": flow}[target]
        expected = value(made + horizon - 1)  # the step that ends then
        assert came == pytest.approx(expected)
        losses = [max(q * (came - told), (q - 1) * (came - told)) for q, told in ((0.1, p10), (0.5, p50), (0.9, p90))]
        assert loss == pytest.approx(sum(losses) / 3)
        assert is_covered == (p10 <= came <= p90)
        assert error == pytest.approx(came - p50)
        assert naive == pytest.approx(expected - value(made - 1))
        assert seasonal == pytest.approx(expected - value(made + horizon - 1 - 10))


def test_changes_are_scored_against_no_change_and_the_change_of_a_season_ago(
    plant: Any, rounds: Any, package: Callable[..., Path]
) -> None:
    targets = [
        {"name": "moved", "transform": "change", "of": ["flow"]},
        {"name": "wild", "transform": "log_change", "of": ["flow"], "over": "rms"},
    ]
    package("forecast", output={**OUTPUT, "targets": targets})
    store(plant, range(20))
    rounds([TANK])()
    store(plant, range(20, 25))
    rounds([TANK], catch_up=1)()

    def change(step: int) -> float:
        return flow(step) - flow(step - 1)

    def wild(made: int, horizon: int) -> float:
        """Over the steps from `made` on."""
        moves = [math.log(flow(step) / flow(step - 1)) ** 2 for step in range(made, made + horizon)]
        return math.sqrt(sum(moves) / horizon)

    found = {(row[0], row[2]): row for row in plant.rows(FOUND.format(made=plant.second("made_at"))) if row[1] == 19}
    assert found.keys() == {("moved", 1.0), ("moved", 3.0), ("wild", 1.0), ("wild", 3.0)}
    for (target, horizon), (*_, came, _, _, _, naive, seasonal) in found.items():
        steps = round(horizon)
        if target == "moved":
            expected = (change(18 + steps), change(18 + steps), change(18 + steps) - change(8 + steps))
        else:
            then = wild(19, steps)
            expected = (then, then - wild(19 - steps, steps), then - wild(9, steps))
        assert (came, naive, seasonal) == pytest.approx(expected)


def test_what_never_came_has_no_score_and_what_came_late_has_one(
    plant: Any, rounds: Any, package: Callable[..., Path]
) -> None:
    package("forecast", output={**OUTPUT, "horizons": [1, 5]})
    store(plant, range(20))
    rounds([TANK])()
    gap = range(20, 26)
    plant.store("level", {second + 0.25: level(second) for second in range(20, 30) if second not in gap})
    plant.store("flow", {second + 0.25: flow(second) for second in range(20, 30)})
    rounds([TANK], catch_up=1)()
    of_19 = (
        "select target, horizon_s from forecast_score join forecaster using (forecaster_id) "
        f"where {plant.second('made_at')} = 19 order by target, horizon_s"
    )
    # A level stands for two seconds, and so not for the step from 23 on.
    assert plant.rows(of_19) == [("flow", 1.0), ("flow", 5.0), ("level", 1.0)]
    plant.store("level", {second + 0.25: level(second) for second in gap})
    rounds([TANK], catch_up=1)()
    assert plant.rows(of_19) == [("flow", 1.0), ("flow", 5.0), ("level", 1.0), ("level", 5.0)]


def test_skill_is_ratios_of_sums_by_forecaster_horizon_and_day(
    plant: Any, rounds: Any, package: Callable[..., Path]
) -> None:
    package("forecast", output=OUTPUT)
    store(plant, range(20))
    rounds([TANK])()
    store(plant, range(20, 30))
    rounds([TANK])()
    rows = [row for row in plant.rows(FOUND.format(made=plant.second("made_at"))) if row[0] == "level" and row[2] == 3]
    assert len(rows) == 8
    found = plant.rows(
        "select model, version, place, sum(forecasts), max(pinball), max(coverage), max(mae), max(mase_naive), "
        "max(mase_seasonal) from forecast_skill where (target, horizon_s) = ('level', 3) group by 1, 2, 3"
    )
    error, naive, seasonal = (sum(abs(row[column]) for row in rows) for column in (9, 10, 11))
    if len(plant.rows("select distinct day from forecast_skill")) == 1:  # midnight may come
        assert found[0][:3] == ("tank", "3", "cloud")
        expected = (8, sum(row[7] for row in rows) / 8, sum(row[8] for row in rows) / 8, error / 8)
        assert found[0][3:] == pytest.approx((*expected, error / naive, error / seasonal))
