from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from contract.manifest import Feature, ModelInput, Target, View, Window
from contract.windows import Steps
from models.data.dataset import Dataset, Table
from models.recipe import Fit, ForecastRecipe, WalkForward

if TYPE_CHECKING:
    from numpy.typing import NDArray

COUNT = 900


def _table(key: str, walk: NDArray[np.float64]) -> Table:
    at_ms = np.arange(len(walk), dtype=np.int64) * 1000
    return Table(key, Steps(at_ms, walk[:, None], np.zeros((len(walk), 1), bool)))


@pytest.fixture(scope="session")
def walks() -> Dataset:
    """Random walks: of what comes nothing is known but how far it may be."""
    steps = np.random.default_rng(11).normal(0, 0.01, (2, COUNT))
    tables = tuple(_table(f"walk {index}", np.exp(np.cumsum(each))) for index, each in enumerate(steps))
    return Dataset("walks", "Walks <at random>", "a test", "none", 1.0, {"price": "EUR"}, tables)


@pytest.fixture(scope="session")
def walk_recipe() -> ForecastRecipe:
    return ForecastRecipe(
        name="walk",
        title="A <b>random</b> walk",
        dataset="walks",
        view=View(
            inputs=(ModelInput(name="price"),),
            window=Window(length=8, step_s=1),
            features=(Feature(name="return", transform="log_change", of=("price",)),),
        ),
        targets=(
            Target(name="price", of=("price",), relative="log_ratio"),
            Target(name="volatility", transform="log_change", of=("price",), over="rms"),
        ),
        horizons=(1, 5),
        season=7,
        units=4,
        fit=Fit(epochs=2, patience=2, batch=256),
        judged=WalkForward(folds=2, seeds=(1,)),
    )
