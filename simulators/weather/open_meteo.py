"""Open-Meteo's forecast API, of which the current weather is simulated."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from simulators.reception import Reply, json_reply
from simulators.weather.station import RequestError, Weather, fahrenheit
from simulators.weather.variables import VARIABLES

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from simulators.weather.climate import Place

_TIME_FORMATS: Final = ("iso8601", "unixtime")
_KNOWN: Final = ("latitude", "longitude", "current", "timeformat", "timezone", "apikey")
_UTC_NAMES: Final = ("GMT", "UTC", "auto")


class OpenMeteo:
    """Current weather in the shape of Open-Meteo's answers, errors included."""

    path = "/v1/forecast"

    def __init__(self, weather: Weather) -> None:
        self._weather = weather

    def key(self, request: Request) -> str | None:
        """From the query."""
        return request.query_params.get("apikey")

    def unauthorized(self, request: Request) -> Reply:
        """As a customer's server says it."""
        del request
        return _error("The supplied API key is invalid.", 403)

    def throttled(self, request: Request, wait_s: int) -> Reply:
        """It sends no Retry-After."""
        del request, wait_s
        return _error("Minutely API request limit exceeded. Please try again in one minute.", 429)

    def exhausted(self, request: Request, wait_s: int) -> Reply:
        """The same for the day."""
        del request, wait_s
        return _error("Daily API request limit exceeded. Please try again tomorrow.", 429)

    def answer(self, request: Request, now_s: float, *, other_units: bool) -> Reply:
        """The current weather."""
        started = time.perf_counter()
        try:
            place, names, unix = self._read(request.query_params)
        except RequestError as exc:
            return _error(str(exc), 400)
        at_s = self._weather.reported_at(now_s)
        values = self._weather.values(place, names, at_s)
        document = _document(place, names, "unixtime" if unix else "iso8601")
        if names:
            shown = at_s if unix else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M")
            document["current"] = {"time": shown, "interval": self._weather.interval_s, **values}
        if other_units:
            _to_fahrenheit(document)
        document["generationtime_ms"] = 1000 * (time.perf_counter() - started)
        return json_reply(document, values=values, source_at=1000 * at_s)

    def _read(self, query: QueryParams) -> tuple[Place, tuple[str, ...], bool]:
        """The place, the variables, and whether times are wanted as unix seconds; raises RequestError."""
        for name in query:
            if name not in _KNOWN:
                # Units asked for and not honoured would be wrong values, so nothing is passed over.
                raise RequestError(f"Parameter '{name}' is not simulated; simulated are {', '.join(_KNOWN)}.")
        place = self._weather.place(query, "latitude", "longitude")
        time_format = query.get("timeformat", "iso8601")
        if time_format not in _TIME_FORMATS:
            raise RequestError(f"Parameter 'timeformat' is '{time_format}'; allowed are {', '.join(_TIME_FORMATS)}.")
        if query.get("timezone", "GMT") not in _UTC_NAMES:
            raise RequestError(f"Invalid timezone '{query['timezone']}'; simulated are {', '.join(_UTC_NAMES)}.")
        return place, _variables(query), time_format == "unixtime"


def _document(place: Place, names: tuple[str, ...], time_format: str) -> dict[str, object]:
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


def _to_fahrenheit(document: dict[str, object]) -> None:
    match document:
        case {"current": dict(current), "current_units": dict(units)}:
            for name in [name for name, unit in units.items() if unit == "°C"]:
                units[name], current[name] = "°F", fahrenheit(current[name])


def _variables(query: QueryParams) -> tuple[str, ...]:
    names = [name for given in query.getlist("current") for name in given.split(",") if name]
    for name in names:
        if name not in VARIABLES:
            raise RequestError(f"Parameter 'current' has unknown variable '{name}'; known are {', '.join(VARIABLES)}.")
    return tuple(dict.fromkeys(names))


def _error(reason: str, status: int) -> Reply:
    return json_reply({"error": True, "reason": reason}, status)
