"""Real anomalies with labels: a water main's flow, and sensors of a space shuttle. Both ship with river."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING, Final

import numpy as np

from contract.windows import Steps
from models.data.columns import columns, numbers, times
from models.data.dataset import Dataset, Incident, Table, runs
from models.data.packages import member, pin
from models.data.terms import About
from models.errors import DataError

if TYPE_CHECKING:
    from models.options import Options

_PACKAGE: Final = "river"
_MAX_BYTES: Final = 4 << 20

_WATER_FLOW: Final = About(
    title="Flow through a water main (Italy), March to May 2022, hourly",
    licence="package BSD-3-Clause; data given to it by Tecnojest s.r.l., whose terms are not stated: for research",
    good_for="events: three times next to nothing flows, and once a pump pushes, as the donor tells",
    not_for="rates: four events in eight weeks of one signal; when each began and ended was read off the series by us",
)
_SHUTTLE: Final = About(
    title="Sensors of a space shuttle (Statlog, as ODDS has it)",
    licence="package BSD-3-Clause; data of the UCI repository under CC BY 4.0",
    good_for="scores of single rows: nine sensors, each of 49,097 rows labelled, 3,511 of them anomalies",
    not_for="windows and delays: the rows are in no order of time, and their times here are but numbers",
)
ABOUT: Final = {"water-flow": _WATER_FLOW, "shuttle": _SHUTTLE}

_FLOW_FILE: Final = "river/datasets/water-flow.csv"
_HOUR_MS: Final = 3_600_000
# What the donor tells of, as the series shows it: UTC.
_FLOW_EVENTS: Final = (
    ("low", "2022-03-24T07:00", "2022-03-25T01:00"),
    ("low", "2022-03-29T06:00", "2022-03-29T20:00"),
    ("peak", "2022-04-03T03:00", "2022-04-03T05:00"),
    ("low", "2022-04-27T13:00", "2022-04-28T05:00"),
)
_SHUTTLE_FILE: Final = "river/datasets/shuttle.csv.gz"
_SENSORS: Final = [f"f{number}" for number in range(1, 10)]
_QUICK_ROWS: Final = 8000


def load(name: str, options: Options) -> Dataset:
    """One of the two."""
    return _water_flow(name, options) if name == "water-flow" else _shuttle(name, options)


def _water_flow(name: str, options: Options) -> Dataset:
    content = member(_PACKAGE, _FLOW_FILE, options, at_most=_MAX_BYTES)
    flow = "Water flow [l/s]"
    read = columns(content, {"Time": "time", flow: "number"}, _FLOW_FILE)
    at_ms, values = times(read, "Time"), numbers(read, [flow])
    incidents = tuple(Incident(kind, _ms(start), _ms(end), "flow") for kind, start, end in _FLOW_EVENTS)
    table = Table("main", Steps(at_ms, values, np.zeros(values.shape, bool)), incidents)
    origin, about = str(pin(_PACKAGE)), _WATER_FLOW
    return Dataset(name, about.title, origin, about.licence, _HOUR_MS / 1000, {"flow": "L/s"}, (table,))


def _shuttle(name: str, options: Options) -> Dataset:
    packed = member(_PACKAGE, _SHUTTLE_FILE, options, at_most=_MAX_BYTES)
    content = _unpacked(packed)
    read = columns(content, dict.fromkeys([*_SENSORS, "anomaly"], "number"), _SHUTTLE_FILE)
    rows = slice(None, _QUICK_ROWS if options.quick else None)
    values, label = numbers(read, _SENSORS)[rows], numbers(read, ["anomaly"])[rows, 0]
    at_ms = np.arange(len(values), dtype=np.int64) * 1000
    incidents = tuple(
        Incident("anomaly", int(at_ms[start]), int(at_ms[end - 1]) + 1000)
        for start, end in runs(label == 1, at_ms, 1000)
    )
    table = Table("shuttle", Steps(at_ms, values, np.zeros(values.shape, bool)), incidents)
    units = dict.fromkeys(_SENSORS)
    return Dataset(name, _SHUTTLE.title, str(pin(_PACKAGE)), _SHUTTLE.licence, 1.0, units, (table,))


def _unpacked(packed: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(packed)) as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as exc:
        raise DataError(f"{_SHUTTLE_FILE}: cannot be unpacked: {exc}") from exc
    if len(content) > _MAX_BYTES:
        raise DataError(f"{_SHUTTLE_FILE}: is larger than {_MAX_BYTES} bytes when unpacked")
    return content


def _ms(text: str) -> int:
    return int(np.datetime64(text, "ms").astype(np.int64))
