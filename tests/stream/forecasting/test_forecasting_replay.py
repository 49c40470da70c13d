from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from stream.forecasting.config import Binding, ForecastingConfig
from stream.forecasting.replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

TANK = {"model": "tank", "devices": ["g/*/plant"], "season_s": 10}
OUTPUT = {
    "kind": "forecast",
    "targets": [{"name": "level", "of": ["level"], "relative": "difference"}, {"name": "flow", "of": ["flow"]}],
    "horizons": [1, 3],
    "quantiles": [0.1, 0.5, 0.9],
}
FORECASTS = "select forecaster_id, made_at, horizon_s, target_at, p10, p50, p90 from forecast order by 1, 2, 3"
SCORES = (
    "select forecaster_id, made_at, horizon_s, is_covered, actual, pinball, error, naive_error, seasonal_error "
    "from forecast_score order by 1, 2, 3"
)
ANOMALIES = "select * from anomaly order by started_at"


@pytest.fixture
def again(spark: SparkSession, plant: Any, tmp_path: Path) -> Callable[..., Any]:
    """Makes seconds of the plant's time again."""

    def make(first: float, last: float) -> Any:
        config = ForecastingConfig(models_dir=tmp_path / "models", bindings=(Binding(**TANK),))
        span = [round((plant.begin_s + second) * 1000) for second in (first, last)]
        return replay(spark, config, plant.dsn, *span)

    return make


def store(plant: Any, seconds: range) -> None:
    plant.store("level", {second + 0.25: 5 + math.sin(second / 7) for second in seconds})
    plant.store("flow", {second + 0.25: 2 + math.cos(second / 5) for second in seconds})


def test_forecasts_and_scores_of_a_span_are_made_again(
    plant: Any, migrated: Any, rounds: Any, package: Callable[..., Path], again: Callable[..., Any]
) -> None:
    package("forecast", output=OUTPUT)
    store(plant, range(20))
    rounds([TANK])()
    store(plant, range(20, 40))
    rounds([TANK])()
    forecasts, scores = plant.rows(FORECASTS), plant.rows(SCORES)
    assert (len(forecasts), len(scores)) == (21 * 4, (20 + 18) * 2)
    begin = f"to_timestamp({plant.begin_s})"
    migrated.run(f"update forecast set p50 = 0, quantiles = '{{0,0,0}}' where made_at > {begin} + interval '25 s'")
    migrated.run(f"delete from forecast where made_at = {begin} + interval '30 s'")
    migrated.run(f"delete from forecast_score where made_at > {begin} + interval '28 s'")
    made = again(25, 40)
    assert (made.windows, made.forecasts) == (14, 14 * 4)  # 40 is no window yet: nothing is made that is not due
    # A net's sums come to the same but for the last digits of 32 bits, in batches of another size.
    for before, after in ((forecasts, plant.rows(FORECASTS)), (scores, plant.rows(SCORES))):
        assert [row[:4] for row in after] == [row[:4] for row in before]
        assert [row[4:] for row in after] == [pytest.approx(row[4:], rel=1e-4, abs=1e-6) for row in before]


def test_what_cannot_be_made_again_stays(
    plant: Any, migrated: Any, rounds: Any, package: Callable[..., Path], again: Callable[..., Any]
) -> None:
    package("forecast", output=OUTPUT)
    store(plant, range(20))
    rounds([TANK])()
    forecasts = plant.rows(FORECASTS)
    migrated.run("delete from reading")
    again(0, 40)
    assert plant.rows(FORECASTS) == forecasts
    # What another version has told is its own.
    store(plant, range(20))
    package("forecast", output=OUTPUT, version="4")
    again(10, 19)
    assert set(forecasts) < set(plant.rows(FORECASTS))
    assert plant.rows(
        "select version, count(*) from forecaster join forecast using (forecaster_id) group by 1 order by 1"
    ) == [
        ("3", 4),
        ("4", 9 * 4),
    ]


@pytest.mark.parametrize("span", [(0, 49), (24, 49), (26, 34), (30, 34), (45, 49)])
def test_incidents_of_a_span_are_made_again(
    plant: Any,
    rounds: Any,
    package: Callable[..., Path],
    again: Callable[..., Any],
    span: tuple[int, int],
) -> None:
    package("anomaly")
    jumps = {*range(25, 31), *range(41, 43)}
    plant.store("level", {second + 0.25: 40.0 if second in jumps else 0.0 for second in range(50)})
    plant.store("flow", {second + 0.25: 1.0 for second in range(50)})
    rounds([TANK])()
    assert plant.rows(ANOMALIES) == []  # the first look is at the newest window alone
    again(-plant.begin_s, 49)  # from 1970 on: what there is of it
    incidents = plant.rows(ANOMALIES)
    assert len(incidents) == 2
    again(*span)
    assert plant.rows(ANOMALIES) == incidents
