from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from contract.manifest import Feature, ModelInput, View, Window
from contract.windows import Steps
from models.data.dataset import Dataset, Incident, Table
from models.recipe import AnomalyRecipe, Fit, WalkForward

if TYPE_CHECKING:
    from collections.abc import Sequence

UNITS = {"pump/speed": "rpm", "pump/flow": "m3/h", "tank/level": "m"}


def table_of(key: str, seed: int, count: int, incidents: Sequence[Incident] = ()) -> Table:
    """The flow follows the speed, but not while something is stuck; the level has nothing to do with either."""
    noise = np.random.default_rng(seed)
    speed, level = (np.convolve(noise.normal(0, 1, count + 39), np.ones(40) / 6, "valid") for _ in range(2))
    flow = 2 * speed + noise.normal(0, 0.05, count)
    for each in incidents:
        rows = slice(each.start_ms // 1000, each.end_ms // 1000)
        flow[rows] = flow[rows.start] + 3
    values = np.stack([speed, flow, level], axis=1)
    return Table(
        key, Steps(np.arange(count, dtype=np.int64) * 1000, values, np.zeros(values.shape, bool)), tuple(incidents)
    )


def dataset_of(*tables: Table) -> Dataset:
    return Dataset("pumps", "Two <sensors>", "a test", "none", 1.0, UNITS, tables)


@pytest.fixture(scope="session")
def normal() -> Dataset:
    return dataset_of(table_of("first", 1, 3000), table_of("second", 2, 3000))


@pytest.fixture(scope="session")
def faulty() -> Dataset:
    """Seven times the flow shows what it showed, and 3 m3/h more."""
    begins = range(200, 2900, 400)
    incidents = [Incident("stuck_sensor", at * 1000, (at + 60) * 1000, "pump") for at in begins]
    return dataset_of(table_of("third", 3, 3000, incidents))


@pytest.fixture(scope="session")
def recipe() -> AnomalyRecipe:
    names = tuple(UNITS)
    return AnomalyRecipe(
        name="pumps",
        title="A pump's <sensors>",
        dataset="normal",
        judged_on="faulty",
        view=View(
            inputs=tuple(ModelInput(name=each) for each in names),
            window=Window(length=8, step_s=1),
            features=tuple(Feature(name=each, of=(each,)) for each in names),
        ),
        units=4,
        code=8,
        patch=2,
        stride=2,
        false_alarms=0.01,
        fit=Fit(epochs=6, patience=6, batch=64, learning_rate=1e-2),
        judged=WalkForward(seeds=(1,)),
    )


@pytest.fixture(scope="session")
def conv_recipe(recipe: AnomalyRecipe) -> AnomalyRecipe:
    return replace(recipe, net="conv", units=8)
