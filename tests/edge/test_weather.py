"""The weather source against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from contract.config import ConfigError, parse_config
from contract.datatypes import DataType
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.sources import WeatherConfig
from edge.sources.weather import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.reading import Reading

T0 = 1_700_000_100
# As Open-Meteo answered, for two variables.
ANSWER: dict[str, Any] = {
    "latitude": 52.52,
    "longitude": 13.41,
    "elevation": 38.0,
    "current_units": {"time": "unixtime", "interval": "seconds", "temperature_2m": "°C", "cloud_cover": "%"},
    "current": {"time": T0, "interval": 900, "temperature_2m": 3.4, "cloud_cover": 75},
}


class WeatherServer(ThreadingHTTPServer):
    """Gives the answers of a list one after the other, the last one again and again."""

    daemon_threads = True

    def __init__(self, answers: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), WeatherAnswering)
        self.answers = answers
        self.asked: list[tuple[str, dict[str, str]]] = []

    def handle_error(self, *_: object) -> None:
        """A client that left in the middle of an answer is what one test is about."""


class WeatherAnswering(BaseHTTPRequestHandler):
    server: WeatherServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append((url.path, dict(parse_qsl(url.query))))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def a_weather_server(*answers: Any) -> Iterator[WeatherServer]:
    with WeatherServer(list(answers)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def place(server: WeatherServer, **options: Any) -> WeatherConfig:
    document = {"type": "weather", "name": "weather", "interval_s": 5, "latitude": 52.52, "longitude": 13.41}
    document |= {"base_url": f"http://127.0.0.1:{server.server_port}", "variables": ["temperature_2m", "cloud_cover"]}
    return WeatherConfig.model_validate(document | options)


async def weather_of(config: WeatherConfig, times: int = 1) -> list[list[Reading]]:
    async with config.open(lambda: 0) as source:
        return [await source.poll() for _ in range(times)]


def changed(**current: Any) -> dict[str, Any]:
    return ANSWER | {"current": ANSWER["current"] | current}


def test_weather_becomes_readings_of_its_own_time() -> None:
    with a_weather_server(ANSWER) as server:
        [readings] = asyncio.run(weather_of(place(server)))
    assert [(r.metric, r.datatype, r.value, r.sampled_at_ms, r.quality) for r in readings] == [
        ("temperature_2m", DataType.DOUBLE, 3.4, T0 * 1000, Quality.GOOD),
        ("cloud_cover", DataType.DOUBLE, 75.0, T0 * 1000, Quality.GOOD),
    ]
    assert server.asked == [
        (
            "/v1/forecast",
            {
                "latitude": "52.52",
                "longitude": "13.41",
                "current": "temperature_2m,cloud_cover",
                "timeformat": "unixtime",
            },
        )
    ]


def test_the_same_time_again_is_no_reading() -> None:
    with a_weather_server(ANSWER, changed(temperature_2m=9), changed(time=T0 + 900, temperature_2m=4)) as server:
        first, second, third = asyncio.run(weather_of(place(server), 3))
    assert len(first) == 2
    assert second == []
    assert third[0].value == 4.0


@pytest.mark.parametrize("missing", [{"temperature_2m": None}, None])
def test_a_variable_without_a_value_is_bad_and_the_other_good(missing: dict[str, None] | None) -> None:
    answer = changed(**missing) if missing else ANSWER | {"current": {"time": T0, "cloud_cover": 75}}
    with a_weather_server(answer) as server:
        [readings] = asyncio.run(weather_of(place(server)))
    assert [(r.value, r.quality) for r in readings] == [(None, Quality.BAD), (75.0, Quality.GOOD)]


def test_the_births_know_the_units() -> None:
    document = {"type": "weather", "name": "w", "interval_s": 5, "latitude": 0, "longitude": 0}
    assert {m.name: m.unit for m in WeatherConfig.model_validate(document).metrics()} == {
        "temperature_2m": "°C",
        "relative_humidity_2m": "%",
        "pressure_msl": "hPa",
        "wind_speed_10m": "km/h",
        "wind_direction_10m": "°",
        "precipitation": "mm",
        "cloud_cover": "%",
    }


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (ANSWER | {"current_units": ANSWER["current_units"] | {"temperature_2m": "°F"}}, "'°F', allowed is '°C'"),
        ({k: v for k, v in ANSWER.items() if k != "current"}, "'current' is missing"),
        (ANSWER | {"current_units": []}, "'current_units' is not an object"),
        (changed(time="2023-11-14T22:15"), "'time' is '2023-11-14T22:15'"),
        (changed(temperature_2m="warm"), "'temperature_2m' is 'warm'"),
        ({"error": True, "reason": "Daily API request limit exceeded"}, "is missing"),
        (b"\xff", "not JSON"),
        (b" " * 300_000, "over 262144 bytes"),
        (500, "HTTP 500"),
        (429, "HTTP 429"),
    ],
)
def test_an_answer_that_is_no_weather_fails_the_poll_with_the_url(answer: Any, complaint: str) -> None:
    with a_weather_server(answer) as server:
        with pytest.raises(SourceError) as caught:
            asyncio.run(weather_of(place(server)))
        assert complaint in str(caught.value)
        assert f"127.0.0.1:{server.server_port}/v1/forecast" in str(caught.value)


def test_a_weather_server_that_is_not_there() -> None:
    with a_weather_server(ANSWER) as server:
        config = place(server)
    with pytest.raises(SourceError, match=config.base_url):
        asyncio.run(weather_of(config))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"variables": ["temperature_2m", "temperature_2m"]}, "at most once"),
        ({"variables": ["temperature"]}, "wind_speed_10m"),
        ({"variables": []}, "variables"),
        ({"latitude": 91}, "latitude"),
    ],
)
def test_wrong_weather_configurations(change: dict[str, Any], complaint: str) -> None:
    document = {"type": "weather", "name": "w", "interval_s": 5, "latitude": 0, "longitude": 0} | change
    with pytest.raises(ConfigError, match=complaint):
        parse_config(document, WeatherConfig, "edge.yaml")


def test_every_variable_has_a_unit() -> None:
    assert all(UNITS.values())
