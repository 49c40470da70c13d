"""A weather service over HTTP, in the shape of Open-Meteo's forecast API."""

from __future__ import annotations

import contextlib
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from starlette.routing import Route

from simulators.errors import SimulatorError
from simulators.ledger import Match
from simulators.simulator import Running, SimulatorConfig
from simulators.weather.climate import Place
from simulators.weather.variables import VARIABLES, values_at
from simulators.web import serve_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from simulators.ledger import Ledger


# Weather models answer for the cells of a grid; this one's are about 7 km.
_CELLS_PER_DEGREE: Final = 16
_TIME_FORMATS: Final = ("iso8601", "unixtime")
_KNOWN: Final = ("latitude", "longitude", "current", "timeformat", "timezone")
_UTC_NAMES: Final = ("GMT", "UTC", "auto")


class WeatherConfig(SimulatorConfig):
    """Weather at any place, with day and night, seasons and fronts."""

    match: ClassVar[Match] = Match.SOURCE_TIME

    type: Literal["weather"]
    interval_s: int = Field(default=900, ge=1, le=3600, description="Seconds from one set of values to the next")
    speed: float = Field(
        default=1.0,
        ge=1,
        le=10_000,
        description="Seconds of weather that pass in a second; the times reported stay those of the clock",
    )
    elevation_m: float = Field(default=38.0, ge=-430, le=8850, description="Height of the ground, metres")

    def run(self, ledger: Ledger) -> AbstractAsyncContextManager[Running]:
        """Answer `GET /v1/forecast` inside the context."""
        return _run(self, ledger)


@contextlib.asynccontextmanager
async def _run(config: WeatherConfig, ledger: Ledger) -> AsyncIterator[Running]:
    app = Starlette(routes=[Route("/v1/forecast", WeatherStation(config, ledger).answer)])
    async with serve_http(app, config.host, config.port, config.name) as url:
        yield Running({"url": url})


class RequestError(SimulatorError):
    """A request that asks for what is not there; the message is what the answer says."""


class WeatherStation:
    """Answers requests for the current weather and notes in the ledger what it answered."""

    def __init__(self, config: WeatherConfig, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._ledger = ledger
        self._clock = clock

    async def answer(self, request: Request) -> JSONResponse:
        """The answer to a request, in Open-Meteo's shape, errors included."""
        started = time.perf_counter()
        try:
            place, names, unix = _read_query(request.query_params, self._config)
        except RequestError as exc:
            return JSONResponse({"error": True, "reason": str(exc)}, status_code=400)
        at_s = int(self._clock()) // self._config.interval_s * self._config.interval_s
        values = self.values(place, names, at_s)
        document = self._document(place, names, "unixtime" if unix else "iso8601")
        if names:
            shown = at_s if unix else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M")
            document["current"] = {"time": shown, "interval": self._config.interval_s, **values}
        document["generationtime_ms"] = 1000 * (time.perf_counter() - started)
        noted = bool(values) and request.method == "GET"
        return JSONResponse(document, background=BackgroundTask(self._note, values, at_s) if noted else None)

    def values(self, place: Place, names: tuple[str, ...], at_s: int) -> dict[str, float | int]:
        """The named variables as they are reported for a UTC time in seconds."""
        speed = self._config.speed
        return values_at(place, names, at_s * speed, self._config.interval_s * speed)

    def _document(self, place: Place, names: tuple[str, ...], time_format: str) -> dict[str, object]:
        document: dict[str, object] = {
            "latitude": place.latitude,
            "longitude": place.longitude,
            "generationtime_ms": 0.0,
            "utc_offset_seconds": 0,
            "timezone": "GMT",
            "timezone_abbreviation": "GMT",
            "elevation": place.elevation_m,
        }
        if names:
            units = {name: VARIABLES[name].unit for name in names}
            document["current_units"] = {"time": time_format, "interval": "seconds", **units}
        return document

    async def _note(self, values: dict[str, float | int], at_s: int) -> None:
        # A background task: it runs once the answer has been handed to the connection.
        self._ledger.served(values, source_at=1000 * at_s)


def _read_query(query: QueryParams, config: WeatherConfig) -> tuple[Place, tuple[str, ...], bool]:
    """The place, the variables, and whether times are wanted as unix seconds; raises RequestError."""
    for name in query:
        if name not in _KNOWN:
            # Units asked for and not honoured would be wrong values, so nothing is passed over.
            raise RequestError(f"Parameter '{name}' is not simulated; simulated are {', '.join(_KNOWN)}.")
    latitude = _coordinate(query, "latitude", 90)
    longitude = _coordinate(query, "longitude", 180)
    time_format = query.get("timeformat", "iso8601")
    if time_format not in _TIME_FORMATS:
        raise RequestError(f"Parameter 'timeformat' is '{time_format}'; allowed are {', '.join(_TIME_FORMATS)}.")
    if query.get("timezone", "GMT") not in _UTC_NAMES:
        raise RequestError(f"Invalid timezone '{query['timezone']}'; simulated are {', '.join(_UTC_NAMES)}.")
    place = Place(config.seed, latitude, longitude, config.elevation_m)
    return place, _variables(query), time_format == "unixtime"


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
    return round(degrees * _CELLS_PER_DEGREE) / _CELLS_PER_DEGREE


def _variables(query: QueryParams) -> tuple[str, ...]:
    names = [name for given in query.getlist("current") for name in given.split(",") if name]
    for name in names:
        if name not in VARIABLES:
            raise RequestError(f"Parameter 'current' has unknown variable '{name}'; known are {', '.join(VARIABLES)}.")
    return tuple(dict.fromkeys(names))
