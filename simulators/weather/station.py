"""The simulated weather as APIs report it: a set of values each interval, under the time at which it began."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulators.errors import SimulatorError
from simulators.weather.climate import Air, Place, air_at, surface_pressure_hpa
from simulators.weather.variables import values_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import QueryParams

# Weather models answer for the cells of a grid; this one's are about 7 km.
_CELLS_PER_DEGREE: Final = 16


class RequestError(SimulatorError):
    """A request that asks for what is not there; the message is what the answer says."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Weather everywhere; `speed` seconds of it pass in a second, while the times reported are the clock's."""

    seed: int
    interval_s: int
    speed: float
    elevation_m: float

    def reported_at(self, now_s: float) -> int:
        """The time of the values that are reported at a UTC time, in seconds."""
        return int(now_s) // self.interval_s * self.interval_s

    def values(self, place: Place, names: Sequence[str], at_s: int) -> dict[str, float | int]:
        """Open-Meteo's variables as they are reported for a time."""
        return values_at(place, names, at_s * self.speed, self.interval_s * self.speed)

    def air(self, place: Place, at_s: int) -> Air:
        """The air as it is reported for a time."""
        return air_at(place, at_s * self.speed)

    def surface_pressure_hpa(self, air: Air) -> float:
        """The pressure at the height of the ground."""
        return surface_pressure_hpa(air.pressure_msl_hpa, self.elevation_m)

    def place(self, query: QueryParams, latitude: str, longitude: str) -> Place:
        """The cell of the place that a query names; raises RequestError."""
        return self.cell(_coordinate(query, latitude, 90), _coordinate(query, longitude, 180))

    def cell(self, latitude: float, longitude: float) -> Place:
        """The cell that a place lies in."""
        latitude, longitude = (
            round(degrees * _CELLS_PER_DEGREE) / _CELLS_PER_DEGREE for degrees in (latitude, longitude)
        )
        return Place(self.seed, latitude, longitude, self.elevation_m)


def _coordinate(query: QueryParams, name: str, limit: int) -> float:
    given = query.getlist(name)
    if len(given) != 1:
        raise RequestError(f"Parameter '{name}' was given {len(given)} times; needed is one value.")
    try:
        degrees = float(given[0])
    except ValueError:
        raise RequestError(f"Parameter '{name}' is '{given[0]}', which is no number.") from None
    if not math.isfinite(degrees) or abs(degrees) > limit:
        raise RequestError(f"{name.capitalize()} must be in range of -{limit} to {limit}°. Given: {degrees}.")
    return degrees


def fahrenheit(celsius: float) -> float:
    """Degrees Fahrenheit, for answers in units that nobody asked for."""
    return round(celsius * 1.8 + 32, 2)
