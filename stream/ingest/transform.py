"""Kafka records to typed rows, as a pure DataFrame -> DataFrame."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from pyspark.sql.pandas.types import from_arrow_schema

from contract.records import DEAD_LETTER_TOPIC
from stream.ingest.decode import KafkaRecord, decode_record
from stream.ingest.rows import SCHEMA, WHOLE_PAYLOAD, DeadLetter, Record, Unfinished, to_batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    import pyarrow as pa
    from pyspark.sql import DataFrame

    from stream.ingest.decode import Limits
    from stream.ingest.rows import Row

logger = logging.getLogger(__name__)

RECORD_COLUMNS: Final = ("topic", "partition", "offset", "headers", "value")

# The whole of a batch passes through the JVM's heap and the driver's memory. A payload of a megabyte can become seventy
# of rows, so a partition's share is bounded; what is left of it is taken by another pass.
MAX_BYTES_PER_PARTITION: Final = 64 << 20
# A worker turns its rows into Arrow when it holds so many, or so many bytes of payloads.
_ROWS_AT_ONCE: Final = 20_000
_PAYLOAD_BYTES_AT_ONCE: Final = 8 << 20


def decoded(
    records: DataFrame,
    limits: Limits,
    dead_letter_topic: str = DEAD_LETTER_TOPIC,
    max_bytes: int = MAX_BYTES_PER_PARTITION,
) -> DataFrame:
    """Kafka's columns (topic, partition, offset, headers, value) to the columns of `stream.ingest.rows.SCHEMA`.

    A partition of `records` that makes more than `max_bytes` of rows ends with an `Unfinished` row.
    """
    rows = records.select(*RECORD_COLUMNS).mapInArrow(
        partial(_decode_batches, limits, dead_letter_topic, max_bytes),
        from_arrow_schema(SCHEMA, prefer_timestamp_ntz=True),
    )
    return rows.select(*SCHEMA.names)


def _decode_batches(
    limits: Limits, dead_letter_topic: str, max_bytes: int, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    spent_bytes = payload_bytes = 0
    rows: list[Row] = []
    unfinished: dict[tuple[str, int], Unfinished] = {}
    for record in (_to_record(columns) for batch in batches for columns in batch.to_pylist()):
        if spent_bytes >= max_bytes:
            at = record.topic, record.partition
            unfinished.setdefault(at, Unfinished(*at, record.offset))
            continue
        rows += _safely_decoded(record, limits, dead_letter_topic)
        payload_bytes += len(record.value or b"")
        if len(rows) >= _ROWS_AT_ONCE or payload_bytes >= min(_PAYLOAD_BYTES_AT_ONCE, max_bytes):
            for made in to_batches(rows):
                spent_bytes += made.nbytes
                yield made
            rows, payload_bytes = [], 0
    yield from to_batches([*rows, *unfinished.values()])


def _to_record(columns: dict[str, Any]) -> KafkaRecord:
    headers = tuple((header["key"], header["value"]) for header in columns["headers"] or ())
    return KafkaRecord(columns["topic"], columns["partition"], columns["offset"], headers, columns["value"])


def _safely_decoded(record: KafkaRecord, limits: Limits, dead_letter_topic: str) -> list[Row]:
    try:
        return decode_record(record, limits, dead_letter_topic)
    except Exception as exc:  # decode_record is total; one record that finds a fault in it must not stop all others
        logger.exception("record %s/%d/%d found a fault in the decoder", record.topic, record.partition, record.offset)
        at = (record.topic, record.partition, record.offset)
        return [Record(*at), DeadLetter(*at, WHOLE_PAYLOAD, None, None, f"a fault in the decoder: {exc!r}", None, None)]
