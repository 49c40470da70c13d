"""Stocks, day by day: how far prices range and swing, and a fan for the price as wide as it should be."""

from __future__ import annotations

from typing import Final

from contract.manifest import Feature, ModelInput, Target, View, Window
from models.recipe import Fit, ForecastRecipe, WalkForward

STOCK_DAY: Final = ForecastRecipe(
    name="stock-day",
    title="Price fan, range and volatility of stocks, 1 to 20 trading days ahead",
    dataset="stocks-daily",
    view=View(
        inputs=tuple(ModelInput(name=name) for name in ("open", "high", "low", "price", "volume")),
        window=Window(length=22, step_s=86_400, steps="present", max_pause_s=10 * 86_400, max_bad_share=0.05),
        features=(
            Feature(name="return", transform="log_change", of=("price",)),
            Feature(name="range", transform="log_ratio", of=("high", "low")),
            Feature(name="of_day", transform="log_ratio", of=("price", "open")),
            Feature(name="volume_change", transform="log_change", of=("volume",)),
            Feature(name="week_sin", transform="week_sin"),
            Feature(name="week_cos", transform="week_cos"),
        ),
    ),
    targets=(
        Target(name="price", of=("price",), relative="log_ratio"),
        # A day's high may be its low: the logarithm of the range, which would be less skewed, is then none.
        Target(name="range", transform="log_ratio", of=("high", "low")),
        Target(name="volatility", transform="log_change", of=("price",), over="rms"),
    ),
    horizons=(1, 5, 20),
    season=5,
    units=24,
    fit=Fit(epochs=10, patience=5, batch=256, learning_rate=4e-3),
    judged=WalkForward(folds=3, seeds=(1, 2)),
)
