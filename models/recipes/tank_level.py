"""The clean-water tank of the plant: where its level will be within the next minute."""

from __future__ import annotations

from typing import Final

from contract.manifest import Feature, ModelInput, Target, View, Window
from models.recipe import Fit, ForecastRecipe, WalkForward

_UNITS: Final = {
    "tank2/level": "m",
    "tank1/level": "m",
    "tank2/level_setpoint": "m",
    "intake/flow": "m3/h",
    "pump1/flow": "m3/h",
    "pump2/flow": "m3/h",
}

TANK_LEVEL: Final = ForecastRecipe(
    name="tank-level",
    title="Level of the clean-water tank, 5 to 60 seconds ahead",
    dataset="plant",
    view=View(
        inputs=tuple(ModelInput(name=n, unit=u, resample="mean", hold_s=10) for n, u in _UNITS.items()),
        window=Window(length=30, step_s=1),
        features=tuple(Feature(name=n, unit=u, of=(n,)) for n, u in _UNITS.items()),
    ),
    targets=(Target(name="level", unit="m", of=("tank2/level",), relative="difference"),),
    horizons=(5, 15, 30, 60),
    # The simulated plant's day is an hour.
    season=3600,
    units=32,
    stride=10,
    fit=Fit(epochs=12, patience=4, batch=128, learning_rate=3e-3),
    judged=WalkForward(folds=3, seeds=(1, 2)),
)
