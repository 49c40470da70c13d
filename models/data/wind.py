"""Four wind turbines of La Haute Borne, ten minutes by ten minutes: real SCADA that ships with OpenOA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from contract.windows import Steps
from models.data.columns import columns, numbers, rows_by_name, times
from models.data.dataset import Dataset, Incident, Table, runs
from models.data.packages import member, pin, read_member
from models.data.terms import About

if TYPE_CHECKING:
    from contract.windows import Floats, Times
    from models.options import Options

PACKAGE: Final = "openoa"
ARCHIVE: Final = "examples/data/la_haute_borne.zip"
MAX_ARCHIVE_BYTES: Final = 48 << 20
_FILE: Final = "la-haute-borne-data-2014-2015.csv"
_MAX_BYTES: Final = 64 << 20
_STEP_MS: Final = 600_000
_QUICK_TURBINES: Final = 1
_QUICK_STEPS: Final = 13_000  # three months

# Ours and the file's names, the unit, and what a good value lies between.
_COLUMNS: Final = {
    "power": ("P_avg", "kW", -100.0, 2200.0),
    "wind_speed": ("Ws_avg", "m/s", 0.0, 40.0),
    "wind_direction": ("Wa_avg", "°", 0.0, 360.0),
    "nacelle_direction": ("Ya_avg", "°", 0.0, 360.0),
    "vane": ("Va_avg", "°", -180.0, 180.0),
    "pitch": ("Ba_avg", "°", -20.0, 120.0),
    "outdoor_temperature": ("Ot_avg", "°C", -25.0, 45.0),
}
# A turbine with its blades turned out of a wind that it could use has been stopped, for so long at least.
_FEATHERED_DEG: Final = 60.0
_USABLE_MS: Final = 5.0
_SHORTEST_STOP: Final = 3

_TURBINES: Final = About(
    title="Four wind turbines of La Haute Borne (France), 2014 and 2015, ten minutes",
    licence="package BSD-3-Clause; data by ENGIE under the Open License 2.0 (Etalab): free with attribution",
    good_for="power from an hour's history; incidents `standstill`, found by a rule from pitch and wind",
    not_for="incidents as a log book would have them: no one wrote one; models judged by them must not see the pitch",
)


ABOUT: Final = {"wind-turbines": _TURBINES}


def load(name: str, options: Options) -> Dataset:
    """A table for each turbine; the first row of those that are there twice counts."""
    archive = member(PACKAGE, ARCHIVE, options, at_most=MAX_ARCHIVE_BYTES)
    content = read_member(archive, _FILE, ARCHIVE, at_most=_MAX_BYTES)
    files = [theirs for theirs, _, _, _ in _COLUMNS.values()]
    kinds = {"Wind_turbine_name": "text", "Date_time": "time"} | dict.fromkeys(files, "number")
    read = columns(content, kinds, _FILE)
    values, at_ms = numbers(read, files), times(read, "Date_time")
    turbines = rows_by_name(read, "Wind_turbine_name")
    tables = [_table(key, at_ms[rows], values[rows]) for key, rows in turbines.items()]
    if options.quick:
        tables = [table.last(_QUICK_STEPS) for table in tables[:_QUICK_TURBINES]]
    units = {ours: unit for ours, (_, unit, _, _) in _COLUMNS.items()}
    return Dataset(name, _TURBINES.title, str(pin(PACKAGE)), _TURBINES.licence, _STEP_MS / 1000, units, tuple(tables))


def _table(key: str, at_ms: Times, values: Floats) -> Table:
    at_ms, first = np.unique(at_ms, return_index=True)
    values = values[first]
    low, high = (np.array([each[place] for each in _COLUMNS.values()]) for place in (2, 3))
    is_spoilt = (values < low) | (values > high)
    values[is_spoilt] = np.nan
    return Table(key, Steps(at_ms, values, is_spoilt), tuple(standstills(at_ms, values)))


def standstills(at_ms: Times, values: Floats) -> list[Incident]:
    """When a turbine stood although the wind blew, by `values` [steps, columns] of this set."""
    names = list(_COLUMNS)
    pitch, wind = values[:, names.index("pitch")], values[:, names.index("wind_speed")]
    stands = (pitch > _FEATHERED_DEG) & (wind > _USABLE_MS)
    return [
        Incident("standstill", int(at_ms[start]), int(at_ms[end - 1]) + _STEP_MS)
        for start, end in runs(stands, at_ms, _STEP_MS)
        if end - start >= _SHORTEST_STOP
    ]
