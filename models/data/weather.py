"""Weather by the hour and by the day, with the names and units that the agent's `open-meteo` preset has.

Three sets: a reanalysis of 22 years that ships with OpenOA, typical years of two stations with pvlib, and four years of
days with vega-datasets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from contract.windows import Steps
from models.data.columns import columns, numbers, texts, times
from models.data.dataset import Dataset, Table
from models.data.packages import member, pin, read_member
from models.data.terms import About
from models.data.wind import ARCHIVE, MAX_ARCHIVE_BYTES, PACKAGE
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.windows import Floats, Times
    from models.options import Options

_HOUR_MS: Final = 3_600_000
_DAY_S: Final = 86_400.0
_MS_TO_KMH: Final = 3.6
_ZERO_C_IN_K: Final = 273.15
_QUICK_HOURS: Final = 2 * 8766

_HOURLY: Final = About(
    title="Weather at La Haute Borne (France), 2009 to 2019, hourly means of a reanalysis (MERRA-2)",
    licence="package BSD-3-Clause; data by NASA's GMAO, which asks for a citation alone",
    good_for="temperature, pressure and wind hours ahead: ten years without a gap, alike to what weather APIs tell",
    not_for="single gusts and local effects: a model's analysis of a cell of 50 km is smoother than a station",
)
_TYPICAL: Final = About(
    title="Weather at Greensboro and Sand Point (USA), typical years (TMY3), hourly",
    licence="package BSD-3-Clause; data by NREL, free with attribution",
    good_for="humidity, clouds and radiation beside the usual; windows within a month",
    not_for="years: each of the twelve months is of another year, chosen for being typical",
)
_DAILY: Final = About(
    title="Weather at Seattle (USA), 2012 to 2015, daily",
    licence="package MIT; data by NOAA, public domain",
    good_for="trying things: it is small",
    not_for="conclusions: 1461 days",
)
ABOUT: Final = {"weather-hourly": _HOURLY, "weather-stations": _TYPICAL, "weather-daily": _DAILY}

_MERRA_FILE: Final = "merra2_la_haute_borne.csv"
_MERRA_MAX_BYTES: Final = 64 << 20
_MERRA_HOURS: Final = 10 * 8766


def load(name: str, options: Options) -> Dataset:
    """One of the three."""
    return {"weather-hourly": _hourly, "weather-stations": _stations, "weather-daily": _daily}[name](name, options)


def _hourly(name: str, options: Options) -> Dataset:
    archive = member(PACKAGE, ARCHIVE, options, at_most=MAX_ARCHIVE_BYTES)
    content = read_member(archive, _MERRA_FILE, ARCHIVE, at_most=_MERRA_MAX_BYTES)
    found = ["temp_2m", "surface_pressure", "u_10", "v_10"]
    read = columns(content, {"datetime": "utc"} | dict.fromkeys(found, "number"), _MERRA_FILE)
    kelvin, pascal, east, north = numbers(read, found).T
    from_deg = np.degrees(np.arctan2(-east, -north)) % 360
    values = np.stack(
        [kelvin - _ZERO_C_IN_K, pascal / 100, np.hypot(east, north) * _MS_TO_KMH, from_deg],
        axis=1,
    )
    units = {"temperature_2m": "°C", "surface_pressure": "hPa", "wind_speed_10m": "km/h", "wind_direction_10m": "°"}
    # A mean over an hour stands under the middle of it.
    table = _table("la-haute-borne", times(read, "datetime") // _HOUR_MS * _HOUR_MS, values)
    table = table.last(_QUICK_HOURS if options.quick else _MERRA_HOURS)
    return Dataset(name, _HOURLY.title, str(pin(PACKAGE)), _HOURLY.licence, 3600.0, units, (table,))


@dataclass(frozen=True, slots=True)
class _Station:
    key: str
    file: str
    utc_offset_h: float


_PVLIB: Final = "pvlib"
_TMY_MAX_BYTES: Final = 4 << 20
_STATIONS: Final = (
    _Station("greensboro", "pvlib/data/723170TYA.CSV", -5.0),
    _Station("sand-point", "pvlib/data/703165TY.csv", -9.0),
)
# Ours, theirs, unit, and what makes ours of theirs.
_TMY_COLUMNS: Final = (
    ("temperature_2m", "Dry-bulb (C)", "°C", 1.0),
    ("dew_point_2m", "Dew-point (C)", "°C", 1.0),
    ("relative_humidity_2m", "RHum (%)", "%", 1.0),
    ("surface_pressure", "Pressure (mbar)", "hPa", 1.0),
    ("wind_speed_10m", "Wspd (m/s)", "km/h", _MS_TO_KMH),
    ("wind_direction_10m", "Wdir (degrees)", "°", 1.0),
    ("cloud_cover", "TotCld (tenths)", "%", 10.0),
    ("shortwave_radiation", "GHI (W/m^2)", "W/m²", 1.0),
)
_TMY_MISSING: Final = -9900.0


def _stations(name: str, options: Options) -> Dataset:
    tables = [_station(each, options) for each in _STATIONS[: 1 if options.quick else None]]
    units = {ours: unit for ours, _, unit, _ in _TMY_COLUMNS}
    return Dataset(name, _TYPICAL.title, str(pin(_PVLIB)), _TYPICAL.licence, 3600.0, units, tuple(tables))


def _station(station: _Station, options: Options) -> Table:
    content = member(_PVLIB, station.file, options, at_most=_TMY_MAX_BYTES)
    days, hours = "Date (MM/DD/YYYY)", "Time (HH:MM)"
    theirs = [each for _, each, _, _ in _TMY_COLUMNS]
    kinds = {days: "text", hours: "text"} | dict.fromkeys(theirs, "number")
    read = columns(content, kinds, station.file, skip=1)
    values = numbers(read, theirs)
    values[values == _TMY_MISSING] = np.nan
    values *= [factor for _, _, _, factor in _TMY_COLUMNS]
    at_ms = _hours_begun(texts(read, days), texts(read, hours), station)
    return _table(station.key, at_ms, values)


def _hours_begun(days: Sequence[str], hours: Sequence[str], station: _Station) -> Times:
    """An hour is told under its end in local standard time, 01:00 to 24:00."""
    try:
        dates = np.array([f"{day[6:]}-{day[:2]}-{day[3:5]}" for day in days], "datetime64[ms]").astype(np.int64)
        ended = np.array([int(hour[:2]) for hour in hours], np.int64)
    except ValueError as exc:
        raise DataError(f"{station.file}: has a time that is none: {exc}") from exc
    begun: Times = dates + (ended - 1 - round(station.utc_offset_h)) * _HOUR_MS
    return begun


_VEGA: Final = "vega-datasets"
_VEGA_FILE: Final = "vega_datasets/_data/seattle-weather.csv"
_VEGA_MAX_BYTES: Final = 1 << 20


def _daily(name: str, options: Options) -> Dataset:
    content = member(_VEGA, _VEGA_FILE, options, at_most=_VEGA_MAX_BYTES)
    theirs = ["temp_max", "temp_min", "precipitation", "wind"]
    read = columns(content, {"date": "text"} | dict.fromkeys(theirs, "number"), _VEGA_FILE)
    values = numbers(read, theirs) * [1.0, 1.0, 1.0, _MS_TO_KMH]
    try:
        at_ms = np.array([day.replace("/", "-") for day in texts(read, "date")], "datetime64[ms]").astype(np.int64)
    except ValueError as exc:
        raise DataError(f"{_VEGA_FILE}: has a date that is none: {exc}") from exc
    units = {"temperature_max": "°C", "temperature_min": "°C", "precipitation": "mm", "wind_speed_10m": "km/h"}
    return Dataset(
        name, _DAILY.title, str(pin(_VEGA)), _DAILY.licence, _DAY_S, units, (_table("seattle", at_ms, values),)
    )


def _table(key: str, at_ms: Times, values: Floats) -> Table:
    at_ms, first = np.unique(at_ms, return_index=True)
    return Table(key, Steps(at_ms, values[first], np.zeros(values.shape, bool)[first]))
