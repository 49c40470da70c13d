"""Made-up weather: any moment computed alone from the seed, the place and the time.

Fronts pass one to each stretch of days. As one nears, pressure falls, the dew point and the clouds rise and
it rains; as it passes, the wind veers and freshens, the air cools and dries, and pressure recovers.
Temperature follows latitude, season, the sun and the clouds; humidity follows from temperature and dew point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

_DAY_S: Final = 86_400.0
_YEAR_S: Final = 365.2425 * _DAY_S
# One front passes in each stretch of this length, at a seeded moment of it.
_FRONT_EVERY_S: Final = 3.5 * _DAY_S
_HOUR_S: Final = 3600.0
# ICAO standard atmosphere: the height in m over which pressure falls by a factor of e, near the ground.
_SCALE_HEIGHT_M: Final = 8434.0
_MIN_DEPRESSION_C: Final = 0.3
_RAIN_FROM_MM_H: Final = 0.1
_SOLAR_W_M2: Final = 1050.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is, degrees and metres, and whose seed its weather has."""

    seed: int
    latitude: float
    longitude: float
    elevation_m: float


@dataclass(frozen=True, slots=True)
class Front:
    """The passage of a front: when, how strong (1 is usual), and how far the wind veers in degrees."""

    passes_at_s: float
    strength: float
    veer_deg: float


@dataclass(frozen=True, slots=True)
class Air:
    """The weather at one moment, before it is rounded and named."""

    temperature_c: float
    dew_point_c: float
    pressure_msl_hpa: float
    cloud_percent: float
    rain_mm_h: float
    wind_ms: float
    gust_ms: float
    wind_from_deg: float
    radiation_w_m2: float
    sun: float
    """Sine of the sun's height."""

    @property
    def humidity_percent(self) -> float:
        """Relative humidity."""
        return 100 * min(1.0, vapour_pressure_hpa(self.dew_point_c) / vapour_pressure_hpa(self.temperature_c))


def vapour_pressure_hpa(temperature_c: float) -> float:
    """Saturation over water by Magnus, with the coefficients of WMO No. 8."""
    return 6.112 * math.exp(17.62 * temperature_c / (243.12 + temperature_c))


def surface_pressure_hpa(msl_hpa: float, elevation_m: float) -> float:
    """Pressure at a height."""
    return msl_hpa * math.exp(-elevation_m / _SCALE_HEIGHT_M)


def apparent_temperature_c(air: Air) -> float:
    """Steadman's apparent temperature in the shade, as the Australian Bureau of Meteorology gives it."""
    vapour = air.humidity_percent / 100 * vapour_pressure_hpa(air.temperature_c)
    return air.temperature_c + 0.33 * vapour - 0.70 * air.wind_ms - 4.0


def weather_code(air: Air) -> int:
    """The WMO code (table 4677) in the few values that Open-Meteo uses."""
    if air.rain_mm_h >= _RAIN_FROM_MM_H:
        codes = (71, 73, 75) if air.temperature_c < 0.5 else (61, 63, 65)  # noqa: PLR2004 - snow or rain
        return codes[(air.rain_mm_h >= 2.5) + (air.rain_mm_h >= 7.6)]  # noqa: PLR2004 - WMO's light, moderate, heavy
    return 0 if air.cloud_percent < 12 else 1 if air.cloud_percent < 38 else 2 if air.cloud_percent < 75 else 3  # noqa: PLR2004 - oktas 1, 3, 6


@lru_cache(maxsize=64)
def _front(seed: int, stretch: int) -> Front:
    rng = np.random.default_rng([seed, 1, stretch])
    at, strength, veer = rng.uniform((0.1, 0.5, 50.0), (0.9, 1.6, 130.0))
    return Front((stretch + float(at)) * _FRONT_EVERY_S, float(strength), float(veer))


def fronts_near(seed: int, at_s: float) -> tuple[Front, ...]:
    """The fronts that reach a moment: the last, this stretch's and the next."""
    stretch = math.floor(at_s / _FRONT_EVERY_S)
    return tuple(_front(seed, n) for n in (stretch - 1, stretch, stretch + 1))


@lru_cache(maxsize=1024)
def _node(seed: int, channel: int, step: int) -> float:
    return float(np.random.default_rng([seed, 2, channel, step]).standard_normal())


def wander(seed: int, channel: int, at_s: float, every_s: float) -> float:
    """Smooth noise of about unit variance: a new direction every `every_s`, eased between."""
    step = math.floor(at_s / every_s)
    part = at_s / every_s - step
    eased = part * part * (3 - 2 * part)
    return (1 - eased) * _node(seed, channel, step) + eased * _node(seed, channel, step + 1)


def sun_height(place: Place, at_s: float) -> float:
    """Sine of the sun's height above the horizon; the equation of time is left out."""
    declination = math.radians(-23.44) * math.cos(2 * math.pi * (at_s / _YEAR_S + 10 / 365.2425))
    hour_angle = 2 * math.pi * (at_s / _DAY_S + place.longitude / 360 - 0.5)
    latitude = math.radians(place.latitude)
    return math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(
        hour_angle
    )


def air_at(place: Place, at_s: float) -> Air:
    """The weather at a place at a UTC time in seconds."""
    seed, fronts = place.seed, fronts_near(place.seed, at_s)
    sun = sun_height(place, at_s)
    cloud = _cloud_percent(seed, fronts, at_s)
    rain = _rain_mm_h(seed, fronts, at_s)
    temperature = _temperature_c(place, fronts, at_s, cloud)
    dew_point = temperature - _dew_point_depression_c(place, fronts, at_s, rain)
    wind, wind_from = _wind(seed, fronts, at_s)
    gustiness = 1.35 + 0.15 * abs(wander(seed, 5, at_s, 300)) + 0.02 * min(rain, 10)
    return Air(
        temperature_c=temperature,
        dew_point_c=dew_point,
        pressure_msl_hpa=_pressure_hpa(seed, fronts, at_s),
        cloud_percent=cloud,
        rain_mm_h=rain,
        wind_ms=wind,
        gust_ms=wind * gustiness,
        wind_from_deg=wind_from,
        radiation_w_m2=_SOLAR_W_M2 * max(0.0, sun) ** 1.15 * (1 - 0.72 * (cloud / 100) ** 3),
        sun=sun,
    )


def _bell(at_s: float, centre_s: float, width_s: float) -> float:
    return math.exp(-(((at_s - centre_s) / width_s) ** 2))


def _passed(front: Front, at_s: float, within_s: float = 1.5 * _HOUR_S) -> float:
    """0 before a front, 1 after it, half at its passage."""
    return 0.5 * (1 + math.tanh((at_s - front.passes_at_s) / within_s))


def _pressure_hpa(seed: int, fronts: tuple[Front, ...], at_s: float) -> float:
    trough = sum(14 * f.strength * _bell(at_s, f.passes_at_s, 14 * _HOUR_S) for f in fronts)
    # The tide of the atmosphere has two crests a day.
    tide = 0.8 * math.cos(4 * math.pi * (at_s / _DAY_S - 10 / 24))
    return 1016.5 + 5 * wander(seed, 1, at_s, 2 * _DAY_S) + tide - trough


def _cloud_percent(seed: int, fronts: tuple[Front, ...], at_s: float) -> float:
    band = sum(95 * _bell(at_s, f.passes_at_s - 2 * _HOUR_S, 9 * _HOUR_S) for f in fronts)
    return min(100.0, max(0.0, 22 + 18 * wander(seed, 2, at_s, 2 * _HOUR_S) + band))


def _rain_mm_h(seed: int, fronts: tuple[Front, ...], at_s: float) -> float:
    band = sum(5 * f.strength * _bell(at_s, f.passes_at_s - 0.5 * _HOUR_S, 3 * _HOUR_S) for f in fronts)
    rate = band * max(0.0, 1 + 0.6 * wander(seed, 3, at_s, 900))
    return rate if rate >= _RAIN_FROM_MM_H else 0.0


def _temperature_c(place: Place, fronts: tuple[Front, ...], at_s: float, cloud_percent: float) -> float:
    latitude = math.radians(place.latitude)
    yearly = 27 - 32 * math.sin(latitude) ** 2
    season = -(12 * math.sin(latitude)) * math.cos(2 * math.pi * (at_s / _YEAR_S - 20 / 365.2425))
    hour = 24 * ((at_s / _DAY_S + place.longitude / 360) % 1)
    # Warmest about three hours past noon; cloud damps both the day and the night.
    daily = 5.5 * (1 - 0.65 * cloud_percent / 100) * math.cos(2 * math.pi * (hour - 15) / 24)
    warm = sum(
        f.strength * (3 * _bell(at_s, f.passes_at_s - 8 * _HOUR_S, 9 * _HOUR_S) * (1 - _passed(f, at_s)))
        for f in fronts
    )
    cold = sum(
        f.strength * 5 * _passed(f, at_s) * _bell(at_s, f.passes_at_s + 6 * _HOUR_S, 16 * _HOUR_S) for f in fronts
    )
    wandering = 1.6 * wander(place.seed, 4, at_s, _DAY_S) + 0.15 * wander(place.seed, 7, at_s, 600)
    return yearly + season + daily + warm - cold + wandering - 0.0065 * place.elevation_m


def _dew_point_depression_c(place: Place, fronts: tuple[Front, ...], at_s: float, rain_mm_h: float) -> float:
    hour = 24 * ((at_s / _DAY_S + place.longitude / 360) % 1)
    daily = 3.2 * math.cos(2 * math.pi * (hour - 15) / 24)
    moist = sum(4 * _bell(at_s, f.passes_at_s - 5 * _HOUR_S, 9 * _HOUR_S) for f in fronts)
    dry = sum(3 * _bell(at_s, f.passes_at_s + 14 * _HOUR_S, 12 * _HOUR_S) for f in fronts)
    depression = 6.5 + daily + 1.2 * wander(place.seed, 6, at_s, 6 * _HOUR_S) - moist + dry
    return max(_MIN_DEPRESSION_C, depression * (1 - 0.7 * min(1.0, rain_mm_h / 2)))


def _wind(seed: int, fronts: tuple[Front, ...], at_s: float) -> tuple[float, float]:
    """Speed in m/s and the direction it blows from, degrees."""
    speed = 3.5 + sum(7 * f.strength * _bell(at_s, f.passes_at_s + _HOUR_S, 8 * _HOUR_S) for f in fronts)
    speed *= max(0.15, 1 + 0.22 * wander(seed, 8, at_s, 1800) + 0.1 * wander(seed, 9, at_s, 60))
    # Each front veers the wind at its passage; it backs again before the next one.
    veer = sum(f.veer_deg * _passed(f, at_s) * (1 - _passed(f, at_s - 40 * _HOUR_S, 12 * _HOUR_S)) for f in fronts)
    return speed, (205 + veer + 14 * wander(seed, 10, at_s, 3 * _HOUR_S) + 4 * wander(seed, 11, at_s, 120)) % 360
