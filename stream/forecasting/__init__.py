"""Forecasts, anomalies and scores of models, worked out of the readings in the database.

`stream.forecasting.run.Forecasting` is the loop, `stream.forecasting.replay.replay` makes a span again.
"""

from stream.forecasting.config import Binding, Elsewhere, ForecastingConfig

__all__ = ["Binding", "Elsewhere", "ForecastingConfig"]
