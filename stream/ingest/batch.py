"""A micro-batch as arrays: pure, no database."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow.compute as pc

from stream.ingest.columns import Readings
from stream.ingest.rows import KINDS, Block, Record, TextReading, Unfinished

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from stream.ingest.rows import RowType

# Control characters are not allowed in group, node or device, so the first three cuts are unambiguous.
_SEPARATOR: Final = "\x1f"
# The kinds of series: what holds their readings.
NUMERIC: Final = "numeric"
TEXT: Final = "text"

Offsets = dict[str, dict[str, int]]


class SeriesKey(NamedTuple):
    """What makes a series one; `kind` is NUMERIC or TEXT."""

    group_id: str
    node_id: str
    device_id: str
    metric: str
    kind: str


@dataclass(frozen=True, slots=True)
class SeriesColumn:
    """The series of many readings: each distinct one once, and for each reading the place of its own among them."""

    keys: tuple[SeriesKey, ...]
    datatypes: tuple[int, ...]
    places: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Latency of readings in ms, from sampled to now."""

    p50: float
    p99: float
    longest: float


class Batch:
    """The rows of one micro-batch, by kind, each in Kafka's order within its partition.

    Or of a piece of one that is large; `earlier` is where its pieces before this one end.
    """

    def __init__(self, table: pa.Table, earlier: Offsets | None = None) -> None:
        self._table = table
        self.earlier: Offsets = earlier or {}

    def of(self, row_type: RowType) -> pa.Table:
        """The rows of a kind, with that kind's columns only."""
        return self._table.select(row_type._fields).filter(pc.equal(self._table["kind"], KINDS[row_type]))

    @cached_property
    def readings(self) -> Readings:
        """The numeric readings."""
        blocks = self.of(Block)["readings"]
        return Readings.concatenated([Readings.from_bytes(block.as_buffer()) for block in blocks])

    def unfinished(self) -> list[Unfinished]:
        """Where tasks stopped short: of each partition the first record that is left for another pass."""
        return [Unfinished(**row) for row in self.of(Unfinished).to_pylist()]

    def offsets(self) -> Offsets:
        """Per topic and partition, the offset after the last record of this batch and its earlier pieces."""
        records = self.of(Record).group_by(["kafka_topic", "kafka_partition"]).aggregate([("kafka_offset", "max")])
        offsets = {topic: dict(partitions) for topic, partitions in self.earlier.items()}
        for row in records.to_pylist():
            offsets.setdefault(row["kafka_topic"], {})[str(row["kafka_partition"])] = row["kafka_offset_max"] + 1
        return offsets

    def first_offsets(self) -> dict[tuple[str, int], int]:
        """Per topic and partition, the offset of the first record of this batch."""
        records = self.of(Record).group_by(["kafka_topic", "kafka_partition"]).aggregate([("kafka_offset", "min")])
        return {(row["kafka_topic"], row["kafka_partition"]): row["kafka_offset_min"] for row in records.to_pylist()}

    def newest_ms(self) -> int | None:
        """When (UTC ms) the bridge had the newest record; None where none says."""
        newest: int | None = pc.max(self.of(Record)["received_at_ms"]).as_py()
        return newest

    def latency(self, now_ms: int) -> Percentiles | None:
        """Over all readings that came live, not from a store; None when there is none."""
        numbers, texts = self.readings, self.of(TextReading)
        live_texts = texts.filter(pc.invert(texts["is_historical"]))
        live = numbers.sampled_at_ms[~numbers.is_historical], to_numpy(live_texts["sampled_at_ms"], np.int64)
        ages = now_ms - np.concatenate(live)
        if not len(ages):
            return None
        p50, p99, longest = np.percentile(ages, [50, 99, 100]).tolist()
        return Percentiles(p50, p99, longest)


def series_of_readings(readings: Readings) -> SeriesColumn:
    """The series of numeric readings."""
    keys = tuple(SeriesKey(*name, NUMERIC) for name in readings.series)
    return SeriesColumn(keys, tuple(readings.datatypes.tolist()), readings.series_no)


def series_of(rows: pa.Table, kind: str) -> SeriesColumn:
    """The series of texts or of announced metrics, each with the datatype that came last."""
    joined = pc.binary_join_element_wise(
        *(rows[name] for name in ("group_id", "node_id", "device_id", "metric")), _SEPARATOR
    )
    encoded = joined.combine_chunks().dictionary_encode()
    places = to_numpy(encoded.indices, np.int32)
    keys = tuple(_series_key(text, kind) for text in encoded.dictionary.to_pylist())
    last = np.zeros(len(keys), np.int64)
    last[places] = np.arange(len(places))  # of equal places the last one is kept
    return SeriesColumn(keys, tuple(rows["datatype"].take(last).to_pylist()), places)


def _series_key(joined: str, kind: str) -> SeriesKey:
    group_id, node_id, device_id, metric = joined.split(_SEPARATOR, 3)
    return SeriesKey(group_id, node_id, device_id, metric, kind)


def sorted_once(series_ids: NDArray[np.int32], sampled_at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of rows in order of (series, time), the first of each such pair only; a COPY is fastest so."""
    order = _sorted_by(series_ids)
    ids, times = series_ids[order], sampled_at_ms[order]
    is_same_series = ids[1:] == ids[:-1]
    if (is_same_series & (times[1:] < times[:-1])).any():  # a series' readings nearly always come in order
        order = np.lexsort((sampled_at_ms, series_ids))
        ids, times = series_ids[order], sampled_at_ms[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = ~is_same_series | (times[1:] != times[:-1])
    return np.asarray(order[first], np.int64)


def _sorted_by(ids: NDArray[np.int32]) -> NDArray[np.int64]:
    """The places in order of ids, those of equal ids in theirs: twice by 16 bits, which numpy sorts in linear time."""
    order = np.argsort(ids.astype(np.uint16), kind="stable")
    high = (ids >> 16).astype(np.uint16)
    return order[np.argsort(high[order], kind="stable")] if high.any() else order


def to_numpy(column: pa.ChunkedArray | pa.Array, dtype: Any) -> NDArray[Any]:  # noqa: ANN401 - numpy's dtype spellings
    """A column as an array that may be written to; a null number becomes NaN."""
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(dtype)
