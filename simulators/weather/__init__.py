"""A weather service over HTTP, in the shapes of Open-Meteo's, OpenWeatherMap's and the US Weather Service's APIs."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from starlette.applications import Starlette
from starlette.routing import Route

from simulators.ledger import Match
from simulators.reception import Access, Reception
from simulators.simulator import Running, SimulatorConfig
from simulators.weather.nws import Nws
from simulators.weather.open_meteo import OpenMeteo
from simulators.weather.openweathermap import OpenWeatherMap
from simulators.weather.station import Weather
from simulators.web import serve_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from simulators.ledger import Ledger


class WeatherConfig(SimulatorConfig, Access):
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
        """Answer the APIs of all three providers inside the context."""
        return _run(self, ledger)


@contextlib.asynccontextmanager
async def _run(config: WeatherConfig, ledger: Ledger) -> AsyncIterator[Running]:
    weather = Weather(config.seed, config.interval_s, config.speed, config.elevation_m)
    reception = Reception(config.name, config, ledger)
    shapes = (OpenMeteo(weather), OpenWeatherMap(weather), Nws(weather))
    app = Starlette(routes=[Route(shape.path, partial(reception.answer, shape=shape)) for shape in shapes])
    async with serve_http(app, config.host, config.port, config.name) as url:
        yield Running({"url": url})
