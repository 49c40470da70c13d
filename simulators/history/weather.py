"""The weather's values at a place, as Open-Meteo calls them."""

from __future__ import annotations

from typing import Final

import numpy as np

from simulators.history.recorded import BEGIN_MS, Recorded
from simulators.weather.climate import Place
from simulators.weather.variables import VARIABLES, values_at

_NAMES: Final = (
    "temperature_2m",
    "relative_humidity_2m",
    "dew_point_2m",
    "pressure_msl",
    "wind_speed_10m",
    "wind_direction_10m",
    "precipitation",
    "cloud_cover",
    "shortwave_radiation",
)
_PLACE: Final = (52.5, 13.4375, 38.0)


def weather_history(seed: int, steps: int, step_s: int = 3600) -> Recorded:
    """One set of values for each step, at latitude 52.5, longitude 13.4375 and 38 m."""
    place = Place(seed, *_PLACE)
    at_s = BEGIN_MS // 1000 + step_s * np.arange(steps, dtype=np.int64)
    rows = [list(values_at(place, _NAMES, float(at), step_s).values()) for at in at_s]
    return Recorded(
        at_ms=at_s * 1000,
        values=np.array(rows, np.float64),
        units={name: VARIABLES[name].unit for name in _NAMES},
    )
