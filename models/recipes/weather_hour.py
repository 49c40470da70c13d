"""Weather by the hour: the temperature of the next day."""

from __future__ import annotations

from typing import Final

from contract.manifest import Feature, ModelInput, Target, View, Window
from models.recipe import Fit, ForecastRecipe, WalkForward

_UNITS: Final = {"temperature_2m": "°C", "surface_pressure": "hPa", "wind_speed_10m": "km/h"}

WEATHER_HOUR: Final = ForecastRecipe(
    name="weather-hour",
    title="Temperature, 1, 6 and 24 hours ahead",
    dataset="weather-hourly",
    view=View(
        inputs=tuple(ModelInput(name=n, unit=u, resample="mean", hold_s=7200) for n, u in _UNITS.items()),
        window=Window(length=24, step_s=3600),
        features=(
            *(Feature(name=n, unit=u, of=(n,)) for n, u in _UNITS.items()),
            Feature(name="temperature_change", unit="°C", transform="change", of=("temperature_2m",)),
            Feature(name="pressure_change", unit="hPa", transform="change", of=("surface_pressure",)),
            Feature(name="day_sin", transform="day_sin"),
            Feature(name="day_cos", transform="day_cos"),
            Feature(name="year_sin", transform="year_sin"),
            Feature(name="year_cos", transform="year_cos"),
        ),
    ),
    targets=(Target(name="temperature", unit="°C", of=("temperature_2m",), relative="difference"),),
    horizons=(1, 6, 24),
    season=24,
    units=32,
    stride=3,
    fit=Fit(epochs=16, patience=4, batch=256, learning_rate=3e-3),
    judged=WalkForward(folds=3, seeds=(1, 2)),
)
