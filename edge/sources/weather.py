"""Current weather of one place from Open-Meteo (or a server that answers like it).

The time of a reading is the weather's own (`current.time`). The same time again is not a new reading.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, field_validator

from contract.datatypes import DataType
from contract.sparkplug import Quality
from edge.reading import MetricInfo, Reading
from edge.sources.base import Source, SourceConfig
from edge.sources.http_json import ApiMisanswer, JsonApi, number_in, open_json_api, unix_seconds_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from edge.sources.base import Clock

# Open-Meteo's `current` variables and the units it gives them in unless told otherwise.
UNITS: Final = {
    "temperature_2m": "°C",
    "apparent_temperature": "°C",
    "dew_point_2m": "°C",
    "relative_humidity_2m": "%",
    "pressure_msl": "hPa",
    "surface_pressure": "hPa",
    "wind_speed_10m": "km/h",
    "wind_gusts_10m": "km/h",
    "wind_direction_10m": "°",
    "precipitation": "mm",
    "rain": "mm",
    "showers": "mm",
    "snowfall": "cm",
    "cloud_cover": "%",
    "visibility": "m",
    "shortwave_radiation": "W/m²",
}
_DEFAULTS: Final = (
    "temperature_2m",
    "relative_humidity_2m",
    "pressure_msl",
    "wind_speed_10m",
    "wind_direction_10m",
    "precipitation",
    "cloud_cover",
)
_MAX_ANSWER_BYTES: Final = 256 * 1024
_BUDGET: Final = 0.9  # of the poll's time-out, so that the error is ours and names the URL


class WeatherConfig(SourceConfig):
    """The weather of one place."""

    type: Literal["weather"] = Field(description="kind of source")
    base_url: str = Field(
        default="https://api.open-meteo.com", pattern=r"^https?://[^/@]+", description="server of the API"
    )
    latitude: float = Field(ge=-90, le=90, description="degrees north")
    longitude: float = Field(ge=-180, le=180, description="degrees east")
    variables: tuple[str, ...] = Field(
        default=_DEFAULTS, min_length=1, description="`current` variables of Open-Meteo; each becomes a metric"
    )

    @field_validator("variables")
    @classmethod
    def _variables_are_known(cls, variables: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [variable for variable in variables if variable not in UNITS]
        if unknown or len(set(variables)) < len(variables):
            raise ValueError(f"each of these at most once: {', '.join(UNITS)}")
        return variables

    def metrics(self) -> list[MetricInfo]:
        """One metric per variable."""
        return [MetricInfo(variable, DataType.DOUBLE, UNITS[variable]) for variable in self.variables]

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[WeatherSource]:
        """The source; `now_ms` is not needed, since weather carries its own time."""
        del now_ms
        async with open_json_api(self.base_url, {}, _MAX_ANSWER_BYTES) as api:
            yield WeatherSource(self, api)


class WeatherSource(Source):
    """An open weather API."""

    def __init__(self, config: WeatherConfig, api: JsonApi) -> None:
        self._config = config
        self._api = api
        self._last_s: int | None = None

    async def poll(self) -> list[Reading]:
        """The weather if it is new; raises SourceError."""
        config = self._config
        params = {
            "latitude": f"{config.latitude}",
            "longitude": f"{config.longitude}",
            "current": ",".join(config.variables),
            "timeformat": "unixtime",
        }
        answer = await self._api.get("/v1/forecast", params, config.timeout_s * _BUDGET)
        try:
            at_s, readings = read_weather(answer, config.variables)
        except ValueError as exc:
            raise ApiMisanswer(f"{config.base_url}/v1/forecast: {exc}") from exc
        is_new, self._last_s = at_s != self._last_s, at_s
        return readings if is_new else []


def read_weather(answer: Mapping[str, object], variables: Sequence[str]) -> tuple[int, list[Reading]]:
    """The unix second of the current weather and its readings; raises ValueError for an answer that is none.

    A variable that is null or missing has bad quality. One in another unit than its metric was born with is an
    error: a number that silently changed its meaning would be worse than none.
    """
    current, units = _object_in(answer, "current"), _object_in(answer, "current_units")
    for variable in variables:
        if variable in current and units.get(variable) != UNITS[variable]:
            raise ValueError(f"{variable} is in {units.get(variable)!r}, allowed is {UNITS[variable]!r}")
    at_s = unix_seconds_in(current, "time")
    return at_s, [_reading(current, variable, at_s * 1000) for variable in variables]


def _reading(current: Mapping[str, object], variable: str, at_ms: int) -> Reading:
    if current.get(variable) is None:
        return Reading(variable, DataType.DOUBLE, None, at_ms, Quality.BAD)
    return Reading(variable, DataType.DOUBLE, number_in(current, variable), at_ms)


def _object_in(answer: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = answer.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"{key!r} is {'missing' if found is None else 'not an object'}")  # noqa: TRY004 - foreign data
    return found
