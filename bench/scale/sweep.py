"""Points of load, one after the other, and what a million readings cost at each."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.fleet import Fleet
from bench.scale.system import OURS, PARTS, Load, System

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.scale.system import Cost

_READINGS: Final = 10  # in a message, unless that is what varies
_WARM_S: Final = 20.0
_TAIL_S: Final = 600.0  # the nodes go on until they are ended


@dataclass(frozen=True, slots=True)
class Point:
    """One load: `varied` is what of it the sweep varies, `value` how much of that."""

    varied: str
    value: int
    load: Load


@dataclass(frozen=True, slots=True)
class Measured:
    """What a point cost: for each part CPU-seconds in `seconds`, and memory in MiB at the end."""

    point: Point
    seconds: float
    readings: int
    cpu_s: Mapping[str, float]
    pss_mib: Mapping[str, float]
    table_bytes_per_reading: float
    kafka_bytes_per_reading: float

    @property
    def messages(self) -> float:
        """How many messages brought the readings."""
        return self.readings / self.point.load.fleet.readings_a_message

    def per_million(self, part: str) -> float:
        """CPU-seconds of a part for a million readings."""
        return 1e6 * self.cpu_s[part] / self.readings if self.readings else float("nan")

    @property
    def ours_per_million(self) -> float:
        """Of the bridge, Spark and PostgreSQL together."""
        return sum(self.per_million(part) for part in OURS)


def points(
    rate: float, series: Sequence[int], nodes: Sequence[int], sizes: Sequence[int], rates: Sequence[int]
) -> Iterator[Point]:
    """Series at ten nodes; nodes at a thousand series; the rate, and readings in a message, at both.

    Messages of other sizes are sent at the highest rate: at a trickle each wakes everybody up, and would seem dear.
    """
    for count in series:
        yield Point("series", count, Load(Fleet(min(10, count), max(1, count // 10), _READINGS), rate))
    for count in nodes:
        yield Point("nodes", count, Load(Fleet(count, max(1, 1000 // count), _READINGS), rate))
    for other in rates:
        yield Point("readings a second", other, Load(Fleet(10, 100, _READINGS), other))
    for size in sizes:
        yield Point("readings a message", size, Load(Fleet(10, 100, size), max([rate, *rates])))


def measure(point: Point, seconds: float, stream: Mapping[str, Any]) -> Measured:
    """Runs one point on a system of its own: at steady load, after everything is warm."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as scratch, System(Path(scratch), stream) as system:
        nodes = system.publish(point.load, _WARM_S + seconds + _TAIL_S)
        system.await_stored(1)
        time.sleep(_WARM_S)
        before, readings, began_s = system.costs(), system.stored(), time.monotonic()
        time.sleep(seconds)
        after, readings_after, ended_s = system.costs(), system.stored(), time.monotonic()
        nodes.kill()
        nodes.wait()
        return Measured(
            point,
            ended_s - began_s,
            readings_after - readings,
            {part: _spent(before[part], after[part]) for part in PARTS},
            {part: cost.pss_mib for part, cost in after.items()},
            system.one("select hypertable_size('reading')") / max(1, readings_after),
            _kafka_bytes(system) / max(1, readings_after),
        )


def _spent(before: Cost, after: Cost) -> float:
    return max(0.0, after.cpu_s - before.cpu_s)


def _kafka_bytes(system: System) -> int:
    """Of the payload topic's segments on the disk, without their indexes."""
    return sum(path.stat().st_size for path in system.kafka.data_dir.glob("headwater.payloads-*/*.log"))
