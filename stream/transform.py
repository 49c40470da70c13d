"""Kafka records to typed rows, as a pure DataFrame -> DataFrame."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from pyspark.sql.pandas.types import from_arrow_schema

from contract.records import DEAD_LETTER_TOPIC
from stream.decode import KafkaRecord, decode_record
from stream.rows import SCHEMA, WHOLE_PAYLOAD, DeadLetter, Record, to_batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    import pyarrow as pa
    from pyspark.sql import DataFrame

    from stream.decode import Limits
    from stream.rows import Row

logger = logging.getLogger(__name__)

RECORD_COLUMNS: Final = ("topic", "partition", "offset", "headers", "value")


def decoded(records: DataFrame, limits: Limits, dead_letter_topic: str = DEAD_LETTER_TOPIC) -> DataFrame:
    """Kafka's columns (topic, partition, offset, headers, value) to the columns of `stream.rows.SCHEMA`."""
    rows = records.select(*RECORD_COLUMNS).mapInArrow(
        partial(_decode_batches, limits, dead_letter_topic), from_arrow_schema(SCHEMA, prefer_timestamp_ntz=True)
    )
    return rows.select(*SCHEMA.names)


def _decode_batches(
    limits: Limits, dead_letter_topic: str, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        records = map(_to_record, batch.to_pylist())
        yield from to_batches(row for record in records for row in _safely_decoded(record, limits, dead_letter_topic))


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
