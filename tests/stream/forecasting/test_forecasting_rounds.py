from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from contract.windows import resampled, windows_at
from stream.errors import ModelError
from stream.forecasting import cloud
from stream.forecasting.config import Binding, ForecastingConfig
from stream.forecasting.progress import ForecastingProgress
from stream.forecasting.run import Forecasting
from stream.serving import ServedModel, read_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

TANK = {"model": "tank", "devices": ["g/*/plant"]}


def level(second: float) -> float:
    return 5 + np.sin(second / 7).item()


def flow(second: float) -> float:
    return 2 + np.cos(second / 5).item()


def store(plant: Any, seconds: range, prefix: str = "") -> None:
    plant.store(f"{prefix}level", {second + 0.25: level(second) for second in seconds})
    plant.store(f"{prefix}flow", {second + 0.25: flow(second) for second in seconds})


def test_a_round_forecasts_what_is_due_and_nothing_twice(plant: Any, rounds: Any, package: Callable[..., Path]) -> None:
    directory = package("forecast")
    store(plant, range(20))
    once = rounds([TANK])
    once()
    # Both have come up to 19.25: the newest whole step, and, as nothing was done before, that one alone.
    assert plant.rows(f"select distinct {plant.second('made_at')} from forecast") == [(19.0,)]
    store(plant, range(20, 24))
    once()
    assert once().models["tank 3"].windows == 5
    found = plant.rows(
        f"select {plant.second('made_at')}, target, horizon_s, {plant.second('target_at')}, p10, p50, p90, levels, "
        "quantiles, series_id, place, version from forecast join forecaster using (forecaster_id) "
        "order by made_at, target, horizon_s"
    )
    assert [row[0] for row in found[::4]] == [19.0, 20.0, 21.0, 22.0, 23.0]
    assert len(found) == 5 * 4
    model = ServedModel.load(read_package(directory))
    seconds = np.arange(24)
    at_ms = ((seconds + 0.25) * 1000).astype(np.int64)
    values = [np.array([of(second) for second in seconds.tolist()]) for of in (level, flow)]
    steps = resampled(model.manifest.inputs, model.manifest.window, [at_ms, at_ms], values)
    seen = windows_at(model.manifest, steps, np.arange(19_000, 24_000, 1000))
    expected = model.forecast(seen)  # [windows, targets, horizons, quantiles]; of the targets level comes first
    told = np.array([row[8] for row in found]).reshape(5, 2, 2, 3)[:, ::-1]
    np.testing.assert_allclose(told, expected, rtol=1e-5)
    _, target, horizon_s, target_at, p10, p50, p90, levels, quantiles, *who = found[0]
    assert (target, horizon_s, target_at) == ("flow", 1.0, 20.0)
    assert (p10, p50, p90) == (None, *quantiles[1:])  # it has p2.5, p50 and p90
    assert levels == pytest.approx([0.025, 0.5, 0.9])
    assert who == [plant.series("flow"), "cloud", "3"]


def test_an_outage_is_made_up_for_up_to_a_limit(plant: Any, rounds: Any, package: Callable[..., Path]) -> None:
    package("forecast")
    store(plant, range(10))
    rounds([TANK])()
    store(plant, range(10, 40))
    # Another run: how far the last one came stands in the database.
    rounds([TANK], catch_up=5)()
    made = plant.rows(f"select distinct {plant.second('made_at')} from forecast order by 1")
    assert made == [(9.0,), (35.0,), (36.0,), (37.0,), (38.0,), (39.0,)]


def test_an_input_that_is_silent_is_not_waited_for_longer_than_the_grace(
    plant: Any, rounds: Any, package: Callable[..., Path]
) -> None:
    package("forecast")
    store(plant, range(20))
    once = rounds([{**TANK, "every_s": 2}])
    once()
    plant.store("level", {20.25: 5.0, 21.25: 5.0})
    once()  # the flow may only be late
    assert plant.rows(f"select max({plant.second('made_at')}) from forecast") == [(18.0,)]
    plant.store("level", {22.25: 5.0})
    once()
    assert plant.rows(f"select max({plant.second('made_at')}) from forecast") == [(20.0,)]


def test_what_is_refused_is_told_once_and_the_others_go_on(
    plant: Any, rounds: Any, package: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    package("forecast")
    (package("forecast", "broken") / "model.keras").write_bytes(b"no model")
    package("forecast", "days", window={"length": 6, "step_s": 1, "steps": "present"})
    store(plant, range(20))
    once = rounds([TANK, {**TANK, "model": "broken"}])
    once()
    progress = once()
    assert progress.models["tank 3"].windows == 1
    assert list(progress.refused) == ["broken"]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(":")[0] for text in told] == [
        "broken is refused, the others go on",
        "days 3 is not served",
        f"no model broken in {told[2].rpartition(' in ')[2]}",
    ]


def test_the_first_model_serves_before_the_next_one_is_tried(
    plant: Any,
    rounds: Any,
    package: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    package("forecast")
    package("forecast", "other")
    store(plant, range(20))
    served: list[list[Any]] = []
    monkeypatch.setattr(
        "stream.forecasting.models.trial",
        lambda _spark, _package: served.append(plant.rows("select distinct model from forecaster order by 1")),
    )
    once = rounds([TANK, {**TANK, "model": "other"}], watch_s=3600)
    once()
    once()
    assert served == [[], [("other",)]]
    assert plant.rows("select distinct model from forecaster order by 1") == [("other",), ("tank",)]
    assert "no model" not in caplog.text, "it waits to be tried"


def test_a_model_that_fails_rests_and_its_windows_are_made_up_for(
    plant: Any,
    rounds: Any,
    package: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    package("forecast")
    package("forecast", "other")
    store(plant, range(20))
    once = rounds([TANK, {**TANK, "model": "other"}])
    once()
    once()  # a package in each round
    told_before = cloud.told

    def told(spark: Any, package: Any, *rest: Any) -> Any:
        if package.manifest.name == "tank":
            raise ModelError("tank 3: failed in Spark: it is broken")
        return told_before(spark, package, *rest)

    monkeypatch.setattr(cloud, "told", told)
    for end in (21, 22):
        store(plant, range(end - 1, end))
        once()
    assert once().models["tank 3"].error == "tank 3: failed in Spark: it is broken"
    assert once().models["other 3"].windows == 3
    assert caplog.text.count("it is broken; tried again each minute, the others go on") == 1
    monkeypatch.setattr(cloud, "told", told_before)
    after = rounds([TANK])
    after()
    after()
    assert plant.rows(
        f"select distinct {plant.second('made_at')} from forecast join forecaster using (forecaster_id) "
        "where model = 'tank' order by 1"
    ) == [(19.0,), (20.0,), (21.0,)]


def test_what_a_device_lacks_is_named(
    plant: Any, rounds: Any, package: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    package("forecast")
    plant.store("level", {0.25: 1.0})
    once = rounds([TANK])
    once()
    once()
    text = "tank 3 does not look at g/n/plant: there is no series g/n/plant: flow"
    assert [record.getMessage() for record in caplog.records].count(text) == 1


def test_each_subject_is_a_series_of_windows_and_inputs_may_be_elsewhere(
    plant: Any, rounds: Any, package: Callable[..., Path]
) -> None:
    package("forecast")
    for subject in ("A", "B", "C"):
        plant.store(f"{subject}/level", {second + 0.25: level(second) for second in range(20)})
    plant.store("flow", {second + 0.25: flow(second) for second in range(20)}, ("g", "m", "other"))
    metrics = {"level": "{subject}/level", "flow": {"device": "{group}/m/other", "metric": "flow"}}
    rounds([{**TANK, "metrics": metrics, "subjects": ["A", "B"]}])()
    found = plant.rows("select subject, target, series_id from forecaster order by subject, target")
    other = plant.series("flow", ("g", "m", "other"))
    assert found == [
        ("A", "flow", other),
        ("A", "level", plant.series("A/level")),
        ("B", "flow", other),
        ("B", "level", plant.series("B/level")),
    ]
    assert plant.rows("select count(*) from forecast") == [(8,)]


def test_it_runs_until_it_is_told_to_stop_whatever_becomes_of_the_connection(
    spark: SparkSession,
    plant: Any,
    migrated: Any,
    package: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    package("forecast")
    store(plant, range(20))
    config = ForecastingConfig(models_dir=tmp_path / "models", bindings=(Binding(**TANK),), poll_s=0.05)
    stop, progress = threading.Event(), ForecastingProgress()
    running = threading.Thread(target=Forecasting(spark, config, plant.dsn, stop, progress).run)
    running.start()
    try:
        wait_for(lambda: plant.rows("select count(*) from forecast") == [(4,)])
        migrated.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'headwater stream'"
        )
        wait_for(lambda: "the database is back" in caplog.text)
        store(plant, range(20, 21))
        wait_for(lambda: plant.rows("select count(*) from forecast") == [(8,)])
    finally:
        stop.set()
        running.join(timeout=30)
    assert not running.is_alive()
    assert caplog.text.count("the database is away") == 1
    assert (progress.state, progress.database) == ("stopping", "ok")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
