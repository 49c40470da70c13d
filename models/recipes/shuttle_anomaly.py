"""Sensors of a space shuttle, labelled row by row: real data on which any detector can be compared with published ones.

Its rows are in no order of time, so a window is one row: the net has nothing to remember, and delays mean nothing.
"""

from __future__ import annotations

from typing import Final

from contract.manifest import Feature, ModelInput, View, Window
from models.recipe import AnomalyRecipe, Fit, WalkForward

_SENSORS: Final = tuple(f"f{number}" for number in range(1, 10))

SHUTTLE_ANOMALY: Final = AnomalyRecipe(
    name="shuttle-anomaly",
    title="Sensors of a space shuttle: rows that are labelled as anomalies",
    dataset="shuttle",
    view=View(
        inputs=tuple(ModelInput(name=name) for name in _SENSORS),
        window=Window(length=1, step_s=1),
        features=tuple(Feature(name=name, of=(name,)) for name in _SENSORS),
    ),
    units=32,
    patch=1,
    code=4,
    false_alarms=0.005,
    fit=Fit(epochs=15, patience=5, batch=128, learning_rate=5e-3),
    judged=WalkForward(seeds=(1, 2, 3), test_share=0.5),
)
