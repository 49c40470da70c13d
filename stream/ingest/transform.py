"""Kafka records to typed rows, as a pure DataFrame -> DataFrame."""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING, Final

from pyspark import TaskContext
from pyspark.sql.pandas.types import from_arrow_schema

from contract.records import DEAD_LETTER_TOPIC
from stream.ingest.columns import decode_columns
from stream.ingest.decode import KafkaRecord
from stream.ingest.rows import SCHEMA, Block, TaskEnd, Unfinished, to_batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    import pyarrow as pa
    from pyspark.sql import DataFrame

    from stream.ingest.decode import Limits

RECORD_COLUMNS: Final = ("topic", "partition", "offset", "headers", "value")

# What all tasks of a pass make can stand in the driver's memory at once. A payload of a megabyte can become seventy of
# rows, so a task's share is bounded; what is left of it is taken by another pass.
MAX_BYTES_PER_TASK: Final = 48 << 20
# A worker decodes so much at once: what numpy does for 400 payloads costs hardly more than for one.
_RECORDS_AT_ONCE: Final = 10_000
_PAYLOAD_BYTES_AT_ONCE: Final = 4 << 20


def decoded(
    records: DataFrame,
    limits: Limits,
    dead_letter_topic: str = DEAD_LETTER_TOPIC,
    max_bytes: int = MAX_BYTES_PER_TASK,
) -> DataFrame:
    """Kafka's columns (topic, partition, offset, headers, value) to the columns of `stream.ingest.rows.SCHEMA`.

    A task that makes more than `max_bytes` of rows ends early, with `Unfinished` rows; each ends with `TaskEnd`.
    """
    rows = records.select(*RECORD_COLUMNS).mapInArrow(
        partial(_decode_batches, limits, dead_letter_topic, max_bytes),
        from_arrow_schema(SCHEMA, prefer_timestamp_ntz=True),
    )
    return rows.select(*SCHEMA.names)


def _decode_batches(
    limits: Limits, dead_letter_topic: str, max_bytes: int, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    spare_collector()
    spent_bytes = payload_bytes = taken = 0
    records: list[KafkaRecord] = []
    unfinished: dict[tuple[str, int], Unfinished] = {}
    for record in (to_record(columns) for batch in batches for columns in batch.to_pylist()):
        if spent_bytes >= max_bytes:
            at = record.topic, record.partition
            unfinished.setdefault(at, Unfinished(*at, record.offset))
            continue
        records.append(record)
        taken += 1
        payload_bytes += len(record.value or b"")
        if len(records) >= _RECORDS_AT_ONCE or payload_bytes >= min(_PAYLOAD_BYTES_AT_ONCE, max_bytes):
            for made in batches_of(records, limits, dead_letter_topic):
                spent_bytes += made.nbytes
                yield made
            records, payload_bytes = [], 0
    yield from batches_of(records, limits, dead_letter_topic)
    yield from to_batches([*unfinished.values(), TaskEnd(_task_no(), taken)])


def _task_no() -> int:
    context = TaskContext.get()
    return 0 if context is None else context.partitionId()


def spare_collector() -> None:
    """Leave what this process has imported out of the search for garbage, which Spark's workers make after each task.

    It takes 20 ms and more, several times what the task of a small micro-batch does; nothing of it is ever garbage.
    """
    if not gc.get_freeze_count():
        gc.freeze()


def batches_of(
    records: Sequence[KafkaRecord], limits: Limits, dead_letter_topic: str = DEAD_LETTER_TOPIC
) -> Iterator[pa.RecordBatch]:
    """What records become, as Arrow batches of `stream.ingest.rows.SCHEMA`."""
    readings, rows = decode_columns(records, limits, dead_letter_topic)
    return to_batches([Block(readings.to_bytes()), *rows] if len(readings.value) else rows)


def to_record(columns: dict[str, Any]) -> KafkaRecord:
    """A record from `RECORD_COLUMNS`."""
    headers = tuple((header["key"], header["value"]) for header in columns["headers"] or ())
    return KafkaRecord(columns["topic"], columns["partition"], columns["offset"], headers, columns["value"])
