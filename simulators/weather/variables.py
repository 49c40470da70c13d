"""The variables of Open-Meteo that the simulator knows: unit, rounding and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulators.weather.climate import (
    Air,
    Place,
    air_at,
    apparent_temperature_c,
    surface_pressure_hpa,
    weather_code,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MS_TO_KMH: Final = 3.6
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Moment:
    """The air at a place, over the interval that has just ended."""

    place: Place
    air: Air
    interval_s: float


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of `current=`; `decimals` 0 gives an integer, as Open-Meteo does."""

    unit: str
    decimals: int
    compute: Callable[[Moment], float]

    def value(self, moment: Moment) -> float | int:
        """The rounded value."""
        found = self.compute(moment)
        # Adding zero turns -0.0 into 0.0.
        return round(found, self.decimals) + 0.0 if self.decimals else round(found)


def _fallen_mm(moment: Moment) -> float:
    return moment.air.rain_mm_h * moment.interval_s / _HOUR_S


def _is_snow(air: Air) -> bool:
    return air.temperature_c < 0.5  # noqa: PLR2004 - degrees


def _visibility_m(moment: Moment) -> float:
    """Open-Meteo's clear-sky limit, less what rain and damp air take of it; made up, not measured."""
    damp = max(0.0, moment.air.humidity_percent - 80) / 20
    return 24_140 * (1 - 0.6 * damp**2) / (1 + 0.5 * moment.air.rain_mm_h)


VARIABLES: Final = {
    "temperature_2m": Variable("°C", 1, lambda m: m.air.temperature_c),
    "relative_humidity_2m": Variable("%", 0, lambda m: m.air.humidity_percent),
    "dew_point_2m": Variable("°C", 1, lambda m: m.air.dew_point_c),
    "apparent_temperature": Variable("°C", 1, lambda m: apparent_temperature_c(m.air)),
    "is_day": Variable("", 0, lambda m: m.air.sun > 0),
    "precipitation": Variable("mm", 2, _fallen_mm),
    "rain": Variable("mm", 2, lambda m: 0.0 if _is_snow(m.air) else _fallen_mm(m)),
    "showers": Variable("mm", 2, lambda _: 0.0),
    # Open-Meteo counts 7 cm of snow for 10 mm of water.
    "snowfall": Variable("cm", 2, lambda m: 0.7 * _fallen_mm(m) if _is_snow(m.air) else 0.0),
    "weather_code": Variable("wmo code", 0, lambda m: weather_code(m.air)),
    "cloud_cover": Variable("%", 0, lambda m: m.air.cloud_percent),
    "visibility": Variable("m", 0, _visibility_m),
    "pressure_msl": Variable("hPa", 1, lambda m: m.air.pressure_msl_hpa),
    "surface_pressure": Variable("hPa", 1, lambda m: surface_pressure_hpa(m.air.pressure_msl_hpa, m.place.elevation_m)),
    "wind_speed_10m": Variable("km/h", 1, lambda m: m.air.wind_ms * _MS_TO_KMH),
    "wind_direction_10m": Variable("°", 0, lambda m: round(m.air.wind_from_deg) % 360),
    "wind_gusts_10m": Variable("km/h", 1, lambda m: m.air.gust_ms * _MS_TO_KMH),
    "shortwave_radiation": Variable("W/m²", 0, lambda m: m.air.radiation_w_m2),
}


def values_at(place: Place, names: Iterable[str], at_s: float, interval_s: float) -> dict[str, float | int]:
    """The named variables at a UTC time in seconds."""
    moment = Moment(place, air_at(place, at_s), interval_s)
    return {name: VARIABLES[name].value(moment) for name in names}
