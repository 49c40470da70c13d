"""The pumps alone, by a convolutional net: small and quick enough for any device, blind to what is not a pump's."""

from __future__ import annotations

from typing import Final

from contract.manifest import Feature, ModelInput, View, Window
from models.recipe import AnomalyRecipe, Fit, WalkForward

_PUMP: Final = {"speed": "rpm", "flow": "m3/h", "current": "A", "bearing_temperature": "degC", "vibration": "mm/s"}
_UNITS: Final = {f"pump{number}/{name}": unit for number in (1, 2) for name, unit in _PUMP.items()}

PUMP_ANOMALY: Final = AnomalyRecipe(
    name="pump-anomaly",
    title="Faults of the plant's pumps, as seen by their own sensors",
    dataset="plant",
    judged_on="plant-faults",
    view=View(
        inputs=tuple(ModelInput(name=n, unit=u, resample="mean", hold_s=15) for n, u in _UNITS.items()),
        window=Window(length=24, step_s=5),
        features=tuple(Feature(name=n, unit=u, of=(n,)) for n, u in _UNITS.items()),
    ),
    net="conv",
    units=24,
    code=36,
    stride=2,
    false_alarms=0.005,
    fit=Fit(epochs=20, patience=5, batch=64, learning_rate=5e-3),
    judged=WalkForward(seeds=(1, 2, 3)),
)
