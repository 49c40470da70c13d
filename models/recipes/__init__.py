"""The recipes by name: a new one is a file here and a line below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.recipes.plant_anomaly import PLANT_ANOMALY
from models.recipes.pump_anomaly import PUMP_ANOMALY
from models.recipes.shuttle_anomaly import SHUTTLE_ANOMALY
from models.recipes.stock_day import STOCK_DAY
from models.recipes.stock_minute import STOCK_MINUTE
from models.recipes.tank_level import TANK_LEVEL
from models.recipes.weather_hour import WEATHER_HOUR
from models.recipes.wind_power import WIND_POWER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.recipe import Recipe

RECIPES: Final[Mapping[str, Recipe]] = {
    each.name: each
    for each in (
        STOCK_MINUTE,
        STOCK_DAY,
        TANK_LEVEL,
        WIND_POWER,
        WEATHER_HOUR,
        PLANT_ANOMALY,
        PUMP_ANOMALY,
        SHUTTLE_ANOMALY,
    )
}
