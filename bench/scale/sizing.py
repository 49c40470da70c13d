"""What 10, 1,000 and 100,000 nodes need, from what messages and readings cost here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import nnls

from bench.scale.system import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.scale.sweep import Measured

NODES: Final = (10, 1_000, 100_000)
# A core that is busier than this has no room for a backlog after an outage.
BUSY: Final = 0.6
_DAY_S: Final = 86_400
_GB: Final = 1e9
_US: Final = 1e6


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one part: CPU-seconds each second whatever comes, and microseconds for each message and each reading."""

    idle_share: float
    us_a_message: float
    us_a_reading: float

    def cores(self, messages_per_s: float, readings_per_s: float) -> float:
        """Busy cores at a load."""
        return self.idle_share + (messages_per_s * self.us_a_message + readings_per_s * self.us_a_reading) / _US


@dataclass(frozen=True, slots=True)
class Bytes:
    """On disk for each reading: in the table with its index, uncompressed; in Kafka, of one replica."""

    table: float
    kafka: float


def prices(measured: Sequence[Measured]) -> dict[str, Prices]:
    """The prices that fit all measured points best, none below nothing."""
    loads = np.array([(m.seconds, m.messages, m.readings) for m in measured])
    scale = loads.max(axis=0)
    found = {}
    for part in PARTS:
        spent = np.array([m.cpu_s[part] for m in measured])
        solution, _ = nnls(loads / scale, spent)
        idle, message, reading = solution / scale
        found[part] = Prices(float(idle), float(message) * _US, float(reading) * _US)
    return found


def disk(measured: Sequence[Measured]) -> Bytes:
    """Of the point with most readings, where the tables' first pages weigh least."""
    most = max(measured, key=lambda m: m.readings)
    return Bytes(most.table_bytes_per_reading, most.kafka_bytes_per_reading)


@dataclass(frozen=True, slots=True)
class Need:
    """What so many nodes need; disk is a day's in GB, `kafka_gb` of one replica."""

    nodes: int
    messages_per_s: float
    readings_per_s: float
    cores: Mapping[str, float]
    bridges: int
    streams: int
    executor_cores: int
    partitions: int
    table_gb: float
    kafka_gb: float

    @property
    def busiest(self) -> str:
        """The part that takes most cores."""
        return max(self.cores, key=lambda part: self.cores[part])


def needs(costs: Mapping[str, Prices], size: Bytes, *, readings: float, interval_s: float) -> list[Need]:
    """For each of `NODES` nodes that send `readings` readings in a message, one message in `interval_s` seconds."""
    found = []
    for nodes in NODES:
        messages_per_s, readings_per_s = nodes / interval_s, nodes * readings / interval_s
        cores = {part: costs[part].cores(messages_per_s, readings_per_s) for part in PARTS}
        # Decoding is what spreads: in local mode the JVM is the executor, too.
        executor_cores = math.ceil((cores["workers"] + cores["jvm"]) / BUSY)
        # One core each: Python has its GIL, and a stream writes on one connection, one process of PostgreSQL's.
        bridges = math.ceil(cores["bridge"] / BUSY)
        streams = math.ceil(max(cores["driver"], cores["postgresql"]) / BUSY)
        found.append(
            Need(
                nodes,
                messages_per_s,
                readings_per_s,
                cores,
                bridges,
                streams,
                executor_cores,
                # Each stream's tasks are its partitions: three for a core even out what hashing makes uneven.
                max(6, 3 * executor_cores),
                readings_per_s * _DAY_S * size.table / _GB,
                readings_per_s * _DAY_S * size.kafka / _GB,
            )
        )
    return found
