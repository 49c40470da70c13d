from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from contract.manifest import Feature, ModelInput, Target, View, Window
from contract.windows import Steps
from models.data.dataset import Dataset, Incident, Table
from models.options import Options
from models.recipe import AnomalyRecipe, Fit, ForecastRecipe, WalkForward

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


@pytest.fixture(scope="session")
def pair_recipe() -> AnomalyRecipe:
    """Of two signals that go together, the smallest that learns it."""
    return AnomalyRecipe(
        name="pair",
        title="Whether flow and pressure go together",
        dataset="normal",
        judged_on="faults",
        view=View(
            inputs=(
                ModelInput(name="flow", unit="m3/h", resample="mean", hold_s=2),
                ModelInput(name="pressure", unit="kPa", hold_s=3),
            ),
            window=Window(length=12, step_s=1),
            features=(
                Feature(name="flow", unit="m3/h", of=("flow",)),
                Feature(name="pressure", unit="kPa", of=("pressure",)),
                Feature(name="change", unit="kPa", transform="change", of=("pressure",)),
            ),
        ),
        units=8,
        code=3,
        false_alarms=0.05,
        fit=Fit(epochs=4, patience=4, batch=64, learning_rate=1e-2),
    )


def _pairs(seed: int, incidents: tuple[Incident, ...] = ()) -> Dataset:
    """While something is wrong the pressure is higher than the flow says."""
    at_s = np.arange(2000, dtype=np.float64)
    wave = 3 + np.sin(at_s / 5)
    values = np.column_stack([10 + 2 * wave, 5 - 0.5 * wave + 0.2 * np.sin(at_s / 17)])
    values += np.random.default_rng(seed).normal(0, 0.1, values.shape)
    for each in incidents:
        values[each.start_ms // 1000 : each.end_ms // 1000, 1] += 1
    steps = Steps((at_s * 1000).astype(np.int64), values, np.zeros(values.shape, bool))
    units = {"flow": "m3/h", "pressure": "kPa"}
    return Dataset(f"pairs-{seed}", "Pairs", "a test", "none", 1.0, units, (Table("t", steps, incidents),))


@pytest.fixture(scope="session")
def pair_work(tmp_path_factory: pytest.TempPathFactory, pair_recipe: AnomalyRecipe) -> Path:
    """The working directory of the pair's autoencoder, trained and quantized."""
    from models.quantization.stage import quantize  # noqa: PLC0415 - seconds that other tests need not wait
    from models.training.stage import train  # noqa: PLC0415 - as above

    options = Options(console=Console(quiet=True), work=tmp_path_factory.mktemp("pair"))
    incidents = tuple(Incident("shift", begin, begin + 60_000) for begin in range(200_000, 1_900_000, 200_000))
    data = {"normal": _pairs(1), "faults": _pairs(2, incidents)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("models.anomaly.parts.load", lambda name, _options: data[name])
        # The other forms are the forecast's to show.
        patched.setattr("models.quantization.trying._PLAIN", ("float32",))
        train(pair_recipe, options)
        quantize(pair_recipe, options)
    return options.work / pair_recipe.name
