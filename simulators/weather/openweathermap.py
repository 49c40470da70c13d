"""OpenWeatherMap's current weather."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from simulators.reception import Reply, json_reply
from simulators.weather.climate import apparent_temperature_c
from simulators.weather.station import RequestError, Weather, fahrenheit

if TYPE_CHECKING:
    from starlette.requests import Request

    from simulators.weather.climate import Air

_KELVIN: Final = 273.15
_VISIBLE_M: Final = 10_000
_SNOW_BELOW_C: Final = 0.5


class OpenWeatherMap:
    """Current weather in the shape of OpenWeatherMap's answers; metric units, or its standard ones."""

    path = "/data/2.5/weather"

    def __init__(self, weather: Weather) -> None:
        self._weather = weather

    def key(self, request: Request) -> str | None:
        """From the query."""
        return request.query_params.get("appid")

    def unauthorized(self, request: Request) -> Reply:
        """HTTP 401."""
        del request
        return _error(401, "Invalid API key. Please see https://openweathermap.org/faq#error401 for more info.")

    def throttled(self, request: Request, wait_s: int) -> Reply:
        """HTTP 429, with no word of when to come again."""
        del request, wait_s
        return _error(
            429,
            "Your account is temporary blocked due to exceeding of requests limitation of your subscription type. "
            "Please choose the proper subscription https://openweathermap.org/price",
        )

    def exhausted(self, request: Request, wait_s: int) -> Reply:
        """The same."""
        return self.throttled(request, wait_s)

    def answer(self, request: Request, now_s: float, *, other_units: bool) -> Reply:
        """The current weather; in other units nothing in it says so."""
        query, weather = request.query_params, self._weather
        try:
            place = weather.place(query, "lat", "lon")
        except RequestError:
            return json_reply({"cod": "400", "message": "Nothing to geocode"}, 400)
        if query.get("units") != "metric":
            return json_reply({"cod": "400", "message": "simulated is units=metric"}, 400)
        at_s = weather.reported_at(now_s)
        air = weather.air(place, at_s)
        main = _main(air, weather.surface_pressure_hpa(air))
        document: dict[str, Any] = {
            "coord": {"lon": place.longitude, "lat": place.latitude},
            "weather": [{"id": 800, "main": "Clear", "description": "clear sky", "icon": "01d"}],
            "base": "stations",
            "main": main,
            "visibility": _VISIBLE_M if air.rain_mm_h == 0 else _VISIBLE_M // 2,
            "wind": {
                "speed": round(air.wind_ms, 2),
                "deg": round(air.wind_from_deg) % 360,
                "gust": round(air.gust_ms, 2),
            },
            "clouds": {"all": round(air.cloud_percent)},
            "dt": at_s,
            "sys": {"country": "XX"},
            "timezone": 0,
            "id": 1,
            "name": "Simulated",
            "cod": 200,
        }
        if air.rain_mm_h > 0:
            document["snow" if air.temperature_c < _SNOW_BELOW_C else "rain"] = {"1h": round(air.rain_mm_h, 2)}
        values = _values(document)
        if other_units:
            main |= {"temp": fahrenheit(main["temp"]), "feels_like": fahrenheit(main["feels_like"])}
        return json_reply(document, values=values, source_at=1000 * at_s)


def _main(air: Air, ground_hpa: float) -> dict[str, Any]:
    return {
        "temp": round(air.temperature_c, 2),
        "feels_like": round(apparent_temperature_c(air), 2),
        "temp_min": round(air.temperature_c - 1, 2),
        "temp_max": round(air.temperature_c + 1, 2),
        "pressure": round(air.pressure_msl_hpa),
        "humidity": round(air.humidity_percent),
        "sea_level": round(air.pressure_msl_hpa),
        "grnd_level": round(ground_hpa),
    }


def _values(document: dict[str, Any]) -> dict[str, float]:
    """By the names that the agent's preset stores."""
    main, wind = document["main"], document["wind"]
    fallen = {f"{kind}_1h": document[kind]["1h"] for kind in ("rain", "snow") if kind in document}
    return {
        "temperature": main["temp"],
        "apparent_temperature": main["feels_like"],
        "relative_humidity": main["humidity"],
        "pressure_msl": main["pressure"],
        "surface_pressure": main["grnd_level"],
        "wind_speed": wind["speed"],
        "wind_direction": wind["deg"],
        "wind_gusts": wind["gust"],
        "cloud_cover": document["clouds"]["all"],
        "visibility": document["visibility"],
        **fallen,
    }


def _error(status: int, message: str) -> Reply:
    return json_reply({"cod": status, "message": message}, status)
