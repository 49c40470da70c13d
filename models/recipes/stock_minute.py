"""Stocks, minute by minute, on the device: made of the metric `price` alone, of which a minute has many readings."""

from __future__ import annotations

from typing import Final

from contract.manifest import Feature, ModelInput, Target, View, Window
from models.recipe import Fit, ForecastRecipe, WalkForward

STOCK_MINUTE: Final = ForecastRecipe(
    name="stock-minute",
    title="Price fan, range and volatility of stocks, 1 to 20 minutes ahead",
    dataset="exchange",
    view=View(
        inputs=(
            ModelInput(name="price", metric="price", resample="last", hold_s=120),
            ModelInput(name="high", metric="price", resample="max", hold_s=120),
            ModelInput(name="low", metric="price", resample="min", hold_s=120),
        ),
        window=Window(length=30, step_s=60),
        features=(
            Feature(name="return", transform="log_change", of=("price",)),
            Feature(name="range", transform="log_ratio", of=("high", "low")),
            Feature(name="above_low", transform="log_ratio", of=("price", "low")),
        ),
    ),
    targets=(
        Target(name="price", of=("price",), relative="log_ratio"),
        Target(name="range", transform="log_ratio", of=("high", "low")),
        Target(name="volatility", transform="log_change", of=("price",), over="rms"),
    ),
    horizons=(1, 5, 20),
    # The simulated exchange's session, in minutes; one follows the other.
    season=390,
    units=24,
    stride=5,
    fit=Fit(epochs=8, patience=4, batch=256, learning_rate=3e-3),
    judged=WalkForward(folds=3, seeds=(1, 2)),
)
