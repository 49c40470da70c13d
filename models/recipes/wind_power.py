"""Wind turbines: the power of the next hour, by what the wind has done."""

from __future__ import annotations

from typing import Final

from contract.manifest import Feature, ModelInput, Target, View, Window
from models.recipe import Fit, ForecastRecipe, WalkForward

_UNITS: Final = {"power": "kW", "wind_speed": "m/s", "pitch": "°", "outdoor_temperature": "°C"}

WIND_POWER: Final = ForecastRecipe(
    name="wind-power",
    title="Power of a wind turbine, 10 to 60 minutes ahead",
    dataset="wind-turbines",
    view=View(
        inputs=tuple(ModelInput(name=n, unit=u, resample="mean", hold_s=1200) for n, u in _UNITS.items()),
        window=Window(length=18, step_s=600),
        features=(
            *(Feature(name=n, unit=u, of=(n,)) for n, u in _UNITS.items()),
            Feature(name="power_change", unit="kW", transform="change", of=("power",)),
            Feature(name="wind_speed_change", unit="m/s", transform="change", of=("wind_speed",)),
            Feature(name="day_sin", transform="day_sin"),
            Feature(name="day_cos", transform="day_cos"),
            Feature(name="year_sin", transform="year_sin"),
            Feature(name="year_cos", transform="year_cos"),
        ),
    ),
    targets=(Target(name="power", unit="kW", of=("power",), relative="difference"),),
    horizons=(1, 2, 3, 6),
    season=144,
    units=32,
    stride=6,
    fit=Fit(epochs=10, patience=4, batch=256, learning_rate=3e-3),
    judged=WalkForward(folds=3, seeds=(1, 2)),
)
