from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from contract.windows import actual, resampled, windows_at
from stream.serving import ServedModel, read_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

TANK = {"model": "tank", "devices": ["g/*/plant"]}


def level(second: float) -> float:
    return 5 + np.sin(second / 7).item()


def flow(second: float) -> float:
    return 2 + np.cos(second / 5).item()


def store(plant: Any, seconds: range) -> None:
    plant.store("level", {second + 0.25: level(second) for second in seconds})
    plant.store("flow", {second + 0.25: flow(second) for second in seconds})


def test_a_round_forecasts_what_is_due_and_nothing_twice(plant: Any, rounds: Any, package: Callable[..., Path]) -> None:
    directory = package("forecast")
    store(plant, range(20))
    round_ = rounds([TANK])
    progress = round_()
    # Both have come up to 19.25: the newest whole step, and, as nothing was done before, that one alone.
    made = plant.rows(f"select distinct {plant.second('made_at')} from forecast")
    assert made == [(19.0,)]
    store(plant, range(20, 24))
    round_()
    round_()
    assert progress.models["tank 3"].windows == 5
    found = plant.rows(
        f"select target, {plant.second('made_at')}, horizon_s, {plant.second('target_at')}, p10, p50, p90, levels, quantiles, "
        "series_id, place, version from forecast join forecaster using (forecaster_id) order by made_at, target, horizon_s"
    )
    assert [row[1] for row in found[::4]] == [19.0, 20.0, 21.0, 22.0, 23.0]
    assert len(found) == 5 * 4
    model = ServedModel.load(read_package(directory))
    seconds = np.arange(24)
    at_ms = ((seconds + 0.25) * 1000).astype(np.int64)
    steps = resampled(
        model.manifest.inputs,
        model.manifest.window,
        [at_ms, at_ms],
        [np.array([level(s) for s in seconds.tolist()]), np.array([flow(s) for s in seconds.tolist()])],
    )
    seen = windows_at(model.manifest, steps, np.arange(19_000, 24_000, 1000))
    expected = model.forecast(seen)  # [windows, targets, horizons, quantiles]; of the targets level comes first
    told = np.array([row[8] for row in found]).reshape(5, 2, 2, 3)[:, ::-1]
    np.testing.assert_allclose(told, expected, rtol=1e-5)
    first = found[0]
    assert first[2:4] == (1.0, 20.0)
    assert (first[4], first[5], first[6]) == (None, first[8][1], first[8][2])  # it has p2.5, p50 and p90
    assert first[7] == pytest.approx([0.025, 0.5, 0.9])
    assert first[9:] == (plant.series("flow"), "cloud", "3")
