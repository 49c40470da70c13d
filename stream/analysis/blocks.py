"""Kafka records to blocks: a shard's numeric readings of many records, as one binary value.

A reading is a row nowhere between Kafka and the detectors: a shuffle of blocks moves few rows, and few bytes.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from stream.analysis.config import SHARDS
from stream.ingest.columns import Readings, decode_columns
from stream.ingest.decode import KafkaRecord
from stream.ingest.transform import RECORD_COLUMNS, spare_collector
from stream.workers import step_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import DataFrame

    from stream.ingest.decode import Limits

COLUMNS: Final = "shard int, kafka_partition int, kafka_offset long, kafka_end long, block binary"
_SCHEMA: Final = pa.schema(
    {
        "shard": pa.int32(),
        "kafka_partition": pa.int32(),
        "kafka_offset": pa.int64(),
        "kafka_end": pa.int64(),
        "block": pa.binary(),
    }
)
# Keys for which Spark's hash (Murmur3, seed 42) gives 0 to 7 modulo 8: shards spread evenly over 1, 2, 4 or 8 tasks.
KEYS: Final = (12, 6, 5, 1, 25, 15, 2, 0)
# A payload of a megabyte can become seventy of readings.
_PAYLOAD_BYTES_AT_ONCE: Final = 8 << 20


class Block(NamedTuple):
    """Readings of a shard, out of the records of a Kafka partition from `kafka_offset` to before `kafka_end`."""

    shard: int
    kafka_partition: int
    kafka_offset: int
    kafka_end: int
    block: bytes


def blocks(records: DataFrame, limits: Limits, dead_letter_topic: str) -> DataFrame:
    """Kafka's columns (topic, partition, offset, headers, value) to the columns of `Block`, `shard` as one of KEYS."""
    return records.select(*RECORD_COLUMNS).mapInArrow(partial(_to_blocks, limits, dead_letter_topic), COLUMNS)


def _to_blocks(limits: Limits, dead_letter_topic: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    step_back()
    spare_collector()
    for batch in batches:
        for records in _pieces(map(_to_record, batch.to_pylist())):
            made = list(of_records(records, limits, dead_letter_topic))
            yield pa.record_batch([pa.array(column) for column in zip(*made, strict=True)], schema=_SCHEMA)


def _to_record(columns: dict[str, Any]) -> KafkaRecord:
    headers = tuple((header["key"], header["value"]) for header in columns["headers"] or ())
    return KafkaRecord(columns["topic"], columns["partition"], columns["offset"], headers, columns["value"])


def _pieces(records: Iterable[KafkaRecord]) -> Iterator[list[KafkaRecord]]:
    """Records of one Kafka partition that follow each other, as many as may be decoded at once."""
    piece: list[KafkaRecord] = []
    size_bytes = 0
    for record in records:
        if piece and (size_bytes >= _PAYLOAD_BYTES_AT_ONCE or record.partition != piece[-1].partition):
            yield piece
            piece, size_bytes = [], 0
        piece.append(record)
        size_bytes += len(record.value or b"")
    if piece:
        yield piece


def of_records(records: list[KafkaRecord], limits: Limits, dead_letter_topic: str) -> Iterator[Block]:
    """The blocks of records of one Kafka partition; one at least, so that it is known how far they went."""
    readings, _others = decode_columns(records, limits, dead_letter_topic)
    at = records[0].partition, records[0].offset, records[-1].offset + 1
    shard_of_series = np.array([shard_of(name.group_id, name.node_id) for name in readings.series], np.int32)
    shards = np.unique(shard_of_series) if len(shard_of_series) else np.zeros(1, np.int32)
    for shard in shards.tolist():
        yield Block(KEYS[shard], *at, part(readings, shard_of_series == shard).to_bytes())


def shard_of(group_id: str, node_id: str) -> int:
    """Of which shard a node is, the same in every process and for ever."""
    return zlib.crc32(f"{group_id}/{node_id}".encode()) % SHARDS


def part(readings: Readings, is_chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Readings:
    """The readings of the series where `is_chosen` [series]."""
    rows = is_chosen[readings.series_no]
    new_no = np.cumsum(is_chosen, dtype=np.int32) - 1
    return Readings(
        tuple(name for name, chosen in zip(readings.series, is_chosen, strict=True) if chosen),
        readings.datatypes[is_chosen],
        new_no[readings.series_no[rows]].astype(np.int32),
        readings.sampled_at_ms[rows],
        readings.received_at_ms[rows],
        readings.is_historical[rows],
        readings.quality[rows],
        readings.value[rows],
    )
