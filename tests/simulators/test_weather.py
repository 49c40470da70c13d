from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.config import ConfigError, parse_config
from simulators.weather import WeatherConfig
from simulators.weather.climate import Place, air_at, fronts_near, surface_pressure_hpa, weather_code
from simulators.weather.variables import VARIABLES, values_at

if TYPE_CHECKING:
    from collections.abc import Callable

BERLIN = Place(seed=7, latitude=52.5, longitude=13.4375, elevation_m=38.0)
NOW_S = 1_795_353_063
HOUR_S, DAY_S = 3600, 86_400
QUERY = {"latitude": "52.52", "longitude": "13.41", "timeformat": "unixtime"}


@given(
    at_s=st.floats(1_500_000_000, 2_500_000_000),
    latitude=st.floats(-90, 90),
    longitude=st.floats(-180, 180),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_weather_is_possible_everywhere_and_at_any_time(
    at_s: float, latitude: float, longitude: float, seed: int
) -> None:
    place = Place(seed, latitude, longitude, 100.0)
    values = values_at(place, VARIABLES, at_s, 900)
    assert values == values_at(place, VARIABLES, at_s, 900)
    assert values["dew_point_2m"] <= values["temperature_2m"]
    assert -80 < values["temperature_2m"] < 55
    assert 0 < values["relative_humidity_2m"] <= 100
    assert 0 <= values["cloud_cover"] <= 100
    assert 930 < values["surface_pressure"] < values["pressure_msl"] < 1070
    assert 0 <= values["wind_speed_10m"] <= values["wind_gusts_10m"] < 300
    assert 0 <= values["wind_direction_10m"] < 360
    assert values["shortwave_radiation"] == 0 or values["is_day"] == 1
    assert (values["precipitation"] == 0) or (values["cloud_cover"] > 0)
    assert values["rain"] == 0 or values["snowfall"] == 0


def test_another_seed_is_other_weather() -> None:
    other = Place(8, BERLIN.latitude, BERLIN.longitude, BERLIN.elevation_m)
    assert values_at(BERLIN, VARIABLES, NOW_S, 900) != values_at(other, VARIABLES, NOW_S, 900)


def test_a_front_brings_low_pressure_rain_and_a_wind_shift() -> None:
    fronts = [fronts_near(7, NOW_S + day * 3.5 * DAY_S)[1] for day in range(40)]
    falls, veers, cools, rains = [], [], [], []
    for front in fronts:
        before, at, after = (air_at(BERLIN, front.passes_at_s + hours * HOUR_S) for hours in (-30, 0, 8))
        falls.append(before.pressure_msl_hpa - at.pressure_msl_hpa)
        ahead = air_at(BERLIN, front.passes_at_s - 5 * HOUR_S)
        veers.append((after.wind_from_deg - ahead.wind_from_deg) % 360)
        day_later = air_at(BERLIN, front.passes_at_s + 12 * HOUR_S)
        cools.append(air_at(BERLIN, front.passes_at_s - 12 * HOUR_S).temperature_c - day_later.temperature_c)
        rains.append(max(air_at(BERLIN, front.passes_at_s + m * 60).rain_mm_h for m in range(-120, 60, 5)))
    assert sum(falls) / 40 > 7
    assert sum(30 < veer < 180 for veer in veers) >= 36
    assert sum(cools) / 40 > 2
    assert min(rains) > 0.5


def test_days_are_warmer_than_nights_and_summers_than_winters() -> None:
    # Local noon is at about 11:06 UTC; 21 July and 21 January of 2026.
    july, january = 1_784_592_000, 1_768_953_600
    days = [air_at(BERLIN, july + d * DAY_S + 13 * HOUR_S).temperature_c for d in range(-20, 20)]
    nights = [air_at(BERLIN, july + d * DAY_S + 2 * HOUR_S).temperature_c for d in range(-20, 20)]
    winter = [air_at(BERLIN, january + d * DAY_S + 13 * HOUR_S).temperature_c for d in range(-20, 20)]
    assert sum(days) / 40 > sum(nights) / 40 + 3
    assert sum(days) / 40 > sum(winter) / 40 + 10
    assert air_at(BERLIN, july + 11 * HOUR_S).sun > 0.7
    assert air_at(BERLIN, july + 23 * HOUR_S).sun < 0


def test_humidity_falls_as_the_day_warms() -> None:
    quiet = [NOW_S + d * DAY_S - NOW_S % DAY_S for d in range(60)]
    noon = [air_at(BERLIN, day + 14 * HOUR_S).humidity_percent for day in quiet]
    dawn = [air_at(BERLIN, day + 3 * HOUR_S).humidity_percent for day in quiet]
    assert sum(noon) / 60 < sum(dawn) / 60 - 10


def test_known_numbers() -> None:
    # The standard atmosphere has 954.6 hPa at 500 m; ours is isothermal and a little lower.
    assert surface_pressure_hpa(1013.25, 500) == pytest.approx(954.6, abs=0.6)
    assert weather_code(air_at(BERLIN, fronts_near(7, NOW_S)[1].passes_at_s - 1800)) in {61, 63, 65, 71, 73, 75}


def test_a_client_sees_open_meteos_shape_and_the_ledger_has_what_it_saw(start_simulator: Callable[..., Any]) -> None:
    station = start_simulator(type="weather", name="w", seed=7, interval_s=5)
    names = tuple(VARIABLES)
    answer = httpx.get(f"{station.url}/v1/forecast", params={**QUERY, "current": ",".join(names)})
    assert answer.status_code == 200
    document = answer.json()
    current = document["current"]
    assert document["current_units"] == {
        "time": "unixtime",
        "interval": "seconds",
        **{name: variable.unit for name, variable in VARIABLES.items()},
    }
    assert {"latitude", "longitude", "generationtime_ms", "utc_offset_seconds", "timezone", "elevation"} < set(document)
    assert (document["latitude"], document["longitude"]) == (52.5, 13.4375)
    assert current["interval"] == 5
    assert current["time"] % 5 == 0
    assert 0 <= time.time() - current["time"] < 10
    station.wait_for("the answer noted", lambda s: len(s.served()) == 1)
    (noted,) = station.served()
    assert noted.source_at == 1000 * current["time"]
    assert noted.values == {name: current[name] for name in names}
    # The same data again, from the seed and the time alone.
    assert noted.values == values_at(BERLIN, names, current["time"], 5)


def test_values_hold_for_their_interval(start_simulator: Callable[..., Any]) -> None:
    station = start_simulator(type="weather", name="w", interval_s=3600)
    params = {**QUERY, "current": "temperature_2m,wind_speed_10m"}
    first, second = (httpx.get(f"{station.url}/v1/forecast", params=params).json()["current"] for _ in range(2))
    assert first == second


def test_weather_may_pass_faster_than_the_clock(start_simulator: Callable[..., Any]) -> None:
    station = start_simulator(type="weather", name="w", seed=7, interval_s=1, speed=3600)
    answer = httpx.get(f"{station.url}/v1/forecast", params={**QUERY, "current": "temperature_2m,precipitation"})
    current = answer.json()["current"]
    assert abs(time.time() - current["time"]) < 5
    expected = values_at(BERLIN, ("temperature_2m", "precipitation"), current["time"] * 3600, 3600)
    assert {name: current[name] for name in expected} == expected


def test_times_are_iso8601_unless_asked_otherwise(start_simulator: Callable[..., Any]) -> None:
    station = start_simulator(type="weather", name="w", interval_s=60)
    answer = httpx.get(f"{station.url}/v1/forecast?latitude=0&longitude=0&current=rain").json()
    assert answer["current_units"]["time"] == "iso8601"
    assert time.strptime(answer["current"]["time"], "%Y-%m-%dT%H:%M")
    assert "current" not in httpx.get(f"{station.url}/v1/forecast?latitude=0&longitude=0").json()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("", "latitude"),
        ("latitude=1", "longitude"),
        ("latitude=91&longitude=0", "-90 to 90"),
        ("latitude=0&longitude=-180.5", "-180 to 180"),
        ("latitude=nan&longitude=0", "-90 to 90"),
        ("latitude=x&longitude=0", "no number"),
        ("latitude=1,2&longitude=0", "no number"),
        ("latitude=1&latitude=2&longitude=0", "given 2 times"),
        ("latitude=0&longitude=0&current=temperature", "unknown variable 'temperature'"),
        ("latitude=0&longitude=0&timeformat=julian", "timeformat"),
        ("latitude=0&longitude=0&timezone=Europe/Berlin", "timezone"),
        ("latitude=0&longitude=0&temperature_unit=fahrenheit", "temperature_unit"),
        ("latitude=0&longitude=0&hourly=rain", "hourly"),
    ],
)
def test_a_wrong_request_is_refused_in_open_meteos_shape(
    start_simulator: Callable[..., Any], query: str, complaint: str
) -> None:
    station = start_simulator(type="weather", name="w")
    answer = httpx.get(f"{station.url}/v1/forecast?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"] is True
    assert complaint in answer.json()["reason"]
    assert httpx.get(f"{station.url}/v2/forecast").status_code == 404
    assert station.served() == []


@pytest.mark.parametrize("keys", [{"interval_s": 0}, {"speed": 0.5}, {"elevation_m": 9000}, {"every_s": 3}])
def test_a_wrong_config_is_named(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(keys))):
        parse_config({"type": "weather", "name": "w", **keys}, WeatherConfig, "scenario.yaml")
