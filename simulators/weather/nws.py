"""The observations of the US National Weather Service's API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from simulators.reception import Reply, json_reply
from simulators.weather.station import Weather, fahrenheit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from simulators.weather.climate import Air

# Latitude and longitude of some airports.
STATIONS: Final = {"KSEA": (47.45, -122.31), "KJFK": (40.64, -73.76), "KDEN": (39.85, -104.66)}
_PROBLEM: Final = "application/problem+json"
_GEO: Final = "application/geo+json"
_KMH: Final = 3.6
_GUSTS_FROM_KMH: Final = 25.0
_VISIBLE_M: Final = 16_093.44
# The default of HTTP libraries says nothing of who asks.
_NOBODY: Final = ("", "python-httpx", "python-requests")


class Nws:
    """Last observations of stations, with units by name and flags of quality."""

    path = "/stations/{station}/observations/latest"

    def __init__(self, weather: Weather) -> None:
        self._weather = weather

    def key(self, request: Request) -> str | None:
        """There is none: whoever says who they are is answered."""
        del request
        return None

    def unauthorized(self, request: Request) -> Reply:
        """HTTP 403."""
        return _problem(request, 403, "Forbidden", "Identify your application by its User-Agent.")

    def throttled(self, request: Request, wait_s: int) -> Reply:
        """HTTP 429."""
        del wait_s
        return _problem(request, 429, "Too Many Requests", "The rate limit is exceeded; try again in 5 seconds.")

    def exhausted(self, request: Request, wait_s: int) -> Reply:
        """The same: it has no limit of a day."""
        return self.throttled(request, wait_s)

    def answer(self, request: Request, now_s: float, *, other_units: bool) -> Reply:
        """The last observation of a station."""
        agent = request.headers.get("user-agent", "").partition("/")[0]
        if agent in _NOBODY:
            return self.unauthorized(request)
        station = request.path_params["station"]
        if station not in STATIONS:
            return _problem(request, 404, "Not Found", f"'/stations/{station}' is not a station.")
        at_s = self._weather.reported_at(now_s)
        air = self._weather.air(self._weather.cell(*STATIONS[station]), at_s)
        found = _observed(air, self._weather.surface_pressure_hpa(air))
        values = _values(found)
        if other_units:
            for name in ("temperature", "dewpoint"):
                found[name] |= {"unitCode": "wmoUnit:degF", "value": fahrenheit(found[name]["value"])}
        document = _document(station, at_s, found)
        return json_reply(document, media_type=_GEO, values=values, source_at=1000 * at_s)


def _document(station: str, at_s: int, observed: Mapping[str, Any]) -> dict[str, Any]:
    latitude, longitude = STATIONS[station]
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [longitude, latitude]},
        "properties": {
            "@type": "wx:ObservationStation",
            "station": f"https://api.weather.gov/stations/{station}",
            "stationId": station,
            "timestamp": datetime.fromtimestamp(at_s, UTC).isoformat(),
            "rawMessage": "",
            "textDescription": "Simulated",
            **observed,
        },
    }


def _observed(air: Air, ground_hpa: float) -> dict[str, dict[str, Any]]:
    def quantity(unit: str, value: float | None, flag: str = "V") -> dict[str, Any]:
        return {"unitCode": f"wmoUnit:{unit}", "value": value, "qualityControl": flag}

    gust_kmh = air.gust_ms * _KMH
    is_gusty = gust_kmh >= _GUSTS_FROM_KMH
    return {
        "temperature": quantity("degC", round(air.temperature_c, 1)),
        "dewpoint": quantity("degC", round(air.dew_point_c, 1)),
        "windDirection": quantity("degree_(angle)", round(air.wind_from_deg, -1) % 360),
        "windSpeed": quantity("km_h-1", round(air.wind_ms * _KMH, 3)),
        # None at all, with the flag of what was not checked, as most of the time.
        "windGust": quantity("km_h-1", round(gust_kmh, 3) if is_gusty else None, "S" if is_gusty else "Z"),
        "barometricPressure": quantity("Pa", round(100 * ground_hpa)),
        "seaLevelPressure": quantity("Pa", round(100 * air.pressure_msl_hpa)),
        "visibility": quantity("m", _VISIBLE_M if air.rain_mm_h == 0 else _VISIBLE_M / 2, "C"),
        "relativeHumidity": quantity("percent", round(air.humidity_percent, 6)),
    }


def _values(observed: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """By the names, and in the units, that the agent's preset stores."""
    names = {
        "temperature": ("temperature", 1),
        "dew_point": ("dewpoint", 1),
        "relative_humidity": ("relativeHumidity", 1),
        "surface_pressure": ("barometricPressure", 0.01),
        "pressure_msl": ("seaLevelPressure", 0.01),
        "wind_speed": ("windSpeed", 1),
        "wind_direction": ("windDirection", 1),
        "wind_gusts": ("windGust", 1),
        "visibility": ("visibility", 1),
    }
    found = {name: (observed[key]["value"], scale) for name, (key, scale) in names.items()}
    return {name: value * scale for name, (value, scale) in found.items() if value is not None}


def _problem(request: Request, status: int, title: str, detail: str) -> Reply:
    document = {
        "correlationId": "simulated",
        "title": title,
        "type": f"https://api.weather.gov/problems/{title.replace(' ', '')}",
        "status": status,
        "detail": detail,
        "instance": str(request.url),
    }
    return json_reply(document, status, media_type=_PROBLEM)
