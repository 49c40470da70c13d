from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from contract.manifest import Feature, ModelInput, Target, View, Window
from contract.windows import Steps
from models.data.dataset import Dataset, Table
from models.options import Options
from models.recipe import Fit, ForecastRecipe, WalkForward

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def waves() -> Dataset:
    """Two tables of a noisy wave and what is of no use: what comes is to be known from what was, up to the noise."""
    random = np.random.default_rng(5)
    tables = []
    for index in range(2):
        at = np.arange(1200, dtype=np.int64)
        wave = 3 + np.sin(at / 5 + index) + random.normal(0, 0.1, len(at))
        values = np.column_stack([random.normal(size=len(at)), wave])
        tables.append(Table(f"t{index}", Steps(at * 1000, values, np.zeros(values.shape, bool))))
    return Dataset("waves", "Waves", "a test", "none", 1.0, {"noise": None, "wave": "m"}, tuple(tables))


@pytest.fixture(scope="session")
def wave_recipe() -> ForecastRecipe:
    """The smallest that learns it."""
    view = View(
        inputs=(ModelInput(name="wave", unit="m"),),
        window=Window(length=12, step_s=1),
        features=(Feature(name="wave", of=("wave",)), Feature(name="change", transform="change", of=("wave",))),
    )
    return ForecastRecipe(
        name="wave",
        title="A wave",
        dataset="waves",
        view=view,
        targets=(
            Target(name="wave", unit="m", of=("wave",), relative="difference"),
            Target(name="restlessness", unit="m", transform="change", of=("wave",), over="rms"),
        ),
        horizons=(1, 4),
        season=31,
        units=8,
        fit=Fit(epochs=4, patience=4, batch=64, learning_rate=1e-2),
        judged=WalkForward(folds=1, seeds=(1,)),
    )


@pytest.fixture(scope="session")
def wave_work(tmp_path_factory: pytest.TempPathFactory, waves: Dataset, wave_recipe: ForecastRecipe) -> Path:
    """The working directory of the wave's forecast, trained and quantized."""
    from models.quantization.stage import quantize  # noqa: PLC0415 - seconds that other tests need not wait
    from models.training.stage import train  # noqa: PLC0415 - as above

    options = Options(console=Console(quiet=True), work=tmp_path_factory.mktemp("wave"))
    with pytest.MonkeyPatch.context() as patched:
        for module in ("models.training.stage", "models.quantization.subject"):
            patched.setattr(f"{module}.load", lambda _name, _options: waves)
        train(wave_recipe, options)
        quantize(wave_recipe, options)
    return options.work / wave_recipe.name
