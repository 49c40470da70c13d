"""What a shard found in a micro-batch: columns of a few kinds, as one binary value on their way to the driver."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import numpy as np
import pyarrow as pa

from stream.analysis.bars import BarRows
from stream.analysis.trend import TrendRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.analysis.anomalies import Told
    from stream.analysis.arrivals import Floats, Slots, Times
    from stream.analysis.registry import Registry

Rows = TypeVar("Rows")


@dataclass(frozen=True, slots=True, eq=False)
class SeriesRows:
    """Series, each once, all [n]; in the rows of other kinds `slot` is the place here."""

    group_id: NDArray[np.object_]
    node_id: NDArray[np.object_]
    device_id: NDArray[np.object_]
    metric: NDArray[np.object_]
    datatype: NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class AnomalyRows:
    """Incidents as they are told, all [n]; `ended_at_ms` below 0: it lasts. `evidence` is JSON."""

    slot: Slots
    detector: NDArray[np.object_]
    started_at_ms: Times
    ended_at_ms: Times
    peak_at_ms: Times
    peak_score: Floats
    threshold: Floats
    evidence: NDArray[np.object_]

    @classmethod
    def of(cls, told: Told, registry: Registry) -> Self:
        """What a detector tells, the last row of each incident alone."""
        rows = told.rows.latest()
        count = len(rows.slot)
        metrics = [name.metric for name in registry.names(rows.slot)]
        evidence = [
            json.dumps([_evidence(metric, *each) for each in rows.readings(row)]) for row, metric in enumerate(metrics)
        ]
        return cls(
            rows.slot,
            np.full(count, told.detector, np.object_),
            rows.started_at_ms,
            rows.ended_at_ms,
            rows.peak_at_ms,
            rows.peak_score,
            np.full(count, told.threshold),
            np.array(evidence, np.object_),
        )


@dataclass(frozen=True, slots=True, eq=False)
class LateRows:
    """How many readings came too late, by the hour that they are of, all [n]."""

    slot: Slots
    bucket_at_ms: Times
    readings: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """How far Kafka's partitions were read, all [n]."""

    kafka_partition: NDArray[np.int32]
    kafka_end: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Readings, all [n]; `left_out` are those of series beyond the most that a shard takes."""

    readings: NDArray[np.int64]
    left_out: NDArray[np.int64]


def _evidence(metric: str, at_ms: int, value: float, expected: float, score: float) -> dict[str, Any]:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    figures = {"value": value, "expected": expected, "score": score}
    known = {name: figure if math.isfinite(figure) else None for name, figure in figures.items()}
    return {"metric": metric, "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z")} | known


_TYPES: Final[dict[str, Any]] = {
    "slot": np.int32,
    "width_s": np.int32,
    "kafka_partition": np.int32,
    "kafka_end": np.int64,
    "quotes": np.int64,
    "readings": np.int64,
    "left_out": np.int64,
    "datatype": np.int16,
    "regime": np.int8,
    "is_final": np.bool_,
} | dict.fromkeys(("group_id", "node_id", "device_id", "metric", "detector", "evidence"), np.object_)


def none(kind: type[Rows]) -> Rows:
    """No rows of a kind."""
    return kind(*(np.empty(0, _type(each.name)) for each in fields(kind)))  # type: ignore[arg-type]  # each kind is a dataclass of columns


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows of a kind, one part after the other; there is one at least."""
    columns = ([getattr(part, each.name) for part in parts] for each in fields(parts[0]))  # type: ignore[arg-type]  # as above
    return type(parts[0])(*map(np.concatenate, columns))


@dataclass(frozen=True, slots=True)
class Findings:
    """All of a shard, or of all shards."""

    series: SeriesRows
    bars: BarRows
    trends: TrendRows
    anomalies: AnomalyRows
    late: LateRows
    ends: Ends
    counts: Counts

    def to_bytes(self) -> bytes:
        """An Arrow stream for each kind, one after the other."""
        sink = pa.BufferOutputStream()
        for each in fields(self):
            rows = getattr(self, each.name)
            columns = {name.name: pa.array(getattr(rows, name.name), _arrow_type(name.name)) for name in fields(rows)}
            batch = pa.record_batch(columns)
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes | bytearray) -> Self:
        """The inverse."""
        source = pa.BufferReader(data)
        found: dict[str, Any] = {name: _read(source, kind) for name, kind in _KINDS.items()}
        return cls(**found)

    @classmethod
    def together(cls, parts: Sequence[Findings]) -> Self:
        """Findings of several shards, which have no series in common."""
        found: dict[str, Any] = {name: none(kind) for name, kind in _KINDS.items()}
        if parts:
            offsets = np.cumsum([0, *(len(part.series.metric) for part in parts)])
            shifted = [_shifted(part, int(offset)) for part, offset in zip(parts, offsets, strict=False)]
            found = {name: joined([getattr(part, name) for part in shifted]) for name in _KINDS}
        return cls(**found)


def _shifted(found: Findings, by: int) -> Findings:
    """The findings, whose series have so many others before them."""
    of_series: dict[str, Any] = {name: getattr(found, name) for name in ("bars", "trends", "anomalies", "late")}
    return replace(found, **{name: replace(rows, slot=rows.slot + by) for name, rows in of_series.items()})


_KINDS: Final[dict[str, type[Any]]] = {
    "series": SeriesRows,
    "bars": BarRows,
    "trends": TrendRows,
    "anomalies": AnomalyRows,
    "late": LateRows,
    "ends": Ends,
    "counts": Counts,
}


def _read(source: pa.BufferReader, kind: type[Rows]) -> Rows:
    (batch,) = pa.ipc.open_stream(source)  # to its end, where the next begins
    return kind(*(column.to_numpy(zero_copy_only=False) for column in batch.columns))


def _type(name: str) -> Any:  # noqa: ANN401 - numpy's dtype spellings
    return _TYPES.get(name, np.int64 if name.endswith("_ms") else np.float64)


def _arrow_type(name: str) -> pa.DataType:
    return pa.string() if _type(name) is np.object_ else pa.from_numpy_dtype(_type(name))
