"""Data for dashboards to show: a fleet's month, or an hour of it, put straight into the tables.

Readings are the simulators' histories, repeated; roll-ups are made of them by the maintainer itself. All else follows
from times by plain arithmetic (dashboards.sql), so that the same arguments give the same rows.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from psycopg2.extras import execute_values

from db import maintain, server
from simulators.history.exchange import exchange_history
from simulators.history.plant import plant_history
from simulators.history.weather import weather_history
from stream.ingest import copy, pending

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg2.extensions import cursor

    from simulators.history.recorded import Recorded

    Values = NDArray[np.float64]
    # By metric: unit, and values that repeat after _PERIOD steps.
    Metrics = Mapping[str, tuple[str, Values]]

_GROUP: Final = "demo"
_REST: Final = Path(__file__).with_name("dashboards.sql")
_DOUBLE, _BOOLEAN = 10, 11  # of Sparkplug
_GOOD: Final = 192
_SEED: Final = 7
_PERIOD: Final = 1440
_BLOCK: Final = 500_000  # readings of a COPY
# Nodes take turns.
_SOURCES: Final = (("line-a", "weather"), ("line-b", "exchange"), ("gate",))
_LINE_A: Final = ("intake/", "tank1/", "tank2/", "pump1/", "pump2/")
_ALARMS: Final = ("intake/alarm_tank1_high", "intake/alarm_tank2_low", "intake/alarm_valve_closed")
_RUNNING: Final = ("pump1/running", "pump2/running")
_BITS: Final = {*_ALARMS, *_RUNNING, "motion_active", "Health/Clock Synchronised"}
_SPOOL: Final = {f"Health/Spool {name}" for name in ("Batches", "Bytes", "Evicted", "Dropped")}
_INSERT_SERIES: Final = """
insert into series (group_id, node_id, device_id, metric, kind, datatype, unit) values %s
returning series_id, device_id, metric
"""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much: the first of each kind of node tells every `step_s`, others only how their spool is."""

    nodes: int
    span: timedelta
    step_s: int
    others_step_s: int = 600
    until: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def since(self) -> datetime:
        """When it begins."""
        return self.until - self.span


def fill(dsn: str, extent: Extent) -> int:
    """Fill a migrated, empty database; how many readings that are."""
    with closing(server.connect(dsn, 10)) as opened, opened.cursor() as cursor:
        devices = _devices()
        stored = 0
        for node in range(1, extent.nodes + 1):
            step_s = extent.step_s if node <= len(_SOURCES) else extent.others_step_s
            of_spool, others = _series(cursor, f"edge-{node:02}", _SOURCES[(node - 1) % len(_SOURCES)], devices)
            stored += _readings(cursor, of_spool, extent, extent.step_s) + _readings(cursor, others, extent, step_s)
        cursor.execute(_REST.read_text(), {"since": extent.since, "until": extent.until, "nodes": extent.nodes})
        maintain.roll_up(opened)
        cursor.execute("analyze")
        return stored


def _devices() -> dict[str, Metrics]:
    plant = _metrics(plant_history(_SEED, _PERIOD, with_faults=True))
    day = np.sin(np.arange(_PERIOD) / _PERIOD * 2 * np.pi)
    # From behind, so that one is on at the end.
    alarms = {name: ("", _now_and_then(90 + 90 * place, 3)[::-1]) for place, name in enumerate(_ALARMS)}
    running = {name: ("", 1 - _now_and_then(300, 20)) for name in _RUNNING}
    return {
        "line-a": {name: told for name, told in plant.items() if name.startswith(_LINE_A)} | alarms | running,
        "line-b": {name: told for name, told in plant.items() if not name.startswith(_LINE_A)},
        "exchange": _metrics(exchange_history(_SEED, _PERIOD)),
        "weather": _metrics(weather_history(_SEED, _PERIOD // 24), each=24),
        "gate": {
            "brightness": ("", 110 + 80 * day),
            "sharpness": ("", 400 + 200 * day),
            "motion": ("", 0.001 + 0.08 * _now_and_then(60, 7)),
            "motion_active": ("", _now_and_then(60, 7)),
            "scene_score": ("", 1.5 * np.abs(day)),
        },
    }


def _metrics(recorded: Recorded, each: int = 1) -> Metrics:
    """A history as it is, or with every step so many times."""
    columns = enumerate(recorded.units.items())
    return {name: (unit, np.repeat(recorded.values[:, place], each)) for place, (name, unit) in columns}


def _health(sources: Sequence[str]) -> Metrics:
    steps = np.arange(_PERIOD, dtype=np.float64)
    piled_up = _now_and_then(700, 100) * (steps % 700)
    own = {
        "Uptime": ("s", steps * 60),
        "Memory": ("MiB", 55 + 3 * np.sin(steps / 200)),
        "Temperature": ("°C", 52 + 9 * np.sin(steps / 90)),
        "Clock Synchronised": ("", 1 - _now_and_then(900, 40)[::-1]),
        "Clock Offset": ("ms", 4 * np.sin(steps / 7)),
        "Disk Free": ("B", 9e9 - steps * 1e5),
        "Disk Size": ("B", np.full(_PERIOD, 16e9)),
        "Spool Limit": ("B", np.full(_PERIOD, 2.0**28)),
        "Spool Batches": ("", steps % 5 + piled_up * 2),
        "Spool Bytes": ("B", steps % 5 * 2_000 + piled_up * 4_000),
        "Spool Buffered": ("", np.zeros(_PERIOD)),
        "Spool Evicted": ("", np.floor(steps / 650) * 3),
        "Spool Dropped": ("", np.zeros(_PERIOD)),
        "Spool Set Aside": ("", np.zeros(_PERIOD)),
    }
    of_lines = {f"{each}/Line Occupancy": ("", 0.3 + 0.1 * np.sin(steps / 30)) for each in sources if "line" in each}
    of_plans = {f"{each}/Quota Left Day": ("", 1000 - steps / 2) for each in sources if each in ("weather", "exchange")}
    rates = {"Polls": 60.0, "Failures": 0.2, "Skipped Ticks": 0.1, "Suppressed": 20.0}
    of_sources = {
        f"{source}/{name}": ("", np.floor(steps * rate)) for source in sources for name, rate in rates.items()
    }
    return {f"Health/{name}": told for name, told in (own | of_lines | of_plans | of_sources).items()}


def _now_and_then(every: int, lasting: int) -> Values:
    """1 for some steps of so many, else 0."""
    return (np.arange(_PERIOD) % every < lasting).astype(np.float64)


def _series(
    cursor: cursor, node: str, sources: Sequence[str], devices: Mapping[str, Metrics]
) -> tuple[list[tuple[int, Values]], list[tuple[int, Values]]]:
    """The series of a node with the values that repeat: of its spool, shown of all nodes, and others."""
    told = {"": _health(sources)} | {source: devices[source] for source in sources}
    columns = {(device, name): column for device, of_it in told.items() for name, column in of_it.items()}
    rows = [
        (_GROUP, node, device, name, "numeric", _BOOLEAN if name in _BITS else _DOUBLE, unit or None)
        for (device, name), (unit, _) in columns.items()
    ]
    found = execute_values(cursor, _INSERT_SERIES, rows, fetch=True)
    shown = [(name in _SPOOL, (series_id, columns[device, name][1])) for series_id, device, name in found]
    return [each for is_spool, each in shown if is_spool], [each for is_spool, each in shown if not is_spool]


def _readings(cursor: cursor, columns: Sequence[tuple[int, Values]], extent: Extent, step_s: int) -> int:
    """As the ingest stores them: notes for the roll-ups, then readings, in one transaction."""
    count = int(extent.span.total_seconds()) // step_s
    first_ms = int(extent.until.timestamp() * 1000) - (count - 1) * step_s * 1000
    ids = np.array([series_id for series_id, _ in columns], np.int32)
    repeated = np.stack([column for _, column in columns])
    for steps in _blocks(count, len(columns)):
        times = np.tile(first_ms + steps * step_s * 1000, len(columns))
        series = np.repeat(ids, len(steps))
        values = repeated[:, steps % _PERIOD].reshape(-1)
        cursor.execute("begin")
        pending.note(cursor, pending.encoded(series, times))
        encoded = copy.readings(series, times, values, np.full(len(series), _GOOD, np.int16))
        cursor.copy_expert("copy reading (series_id, sampled_at, value, quality) from stdin (format binary)", encoded)
        cursor.execute("commit")
    return count * len(columns)


def _blocks(count: int, columns: int) -> Iterator[NDArray[np.int64]]:
    size = max(_BLOCK // columns, 1)
    for begin in range(0, count, size):
        yield np.arange(begin, min(begin + size, count), dtype=np.int64)
