"""What a Kafka record becomes: rows of a few kinds, in one tall Arrow table.

One table, because what tasks make is collected in one stream and committed together; each kind fills its own columns,
and the rest are null, which costs Arrow next to nothing. Numeric readings, which are nearly all there is, come by the
ten thousand in a row of one binary value: Spark moves rows, and its rows cost more than the database's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Record(NamedTuple):
    """One for every Kafka record; group and node are None where the record did not say whose it is.

    Epoch, batch number and the oldest batch that the node still kept are None where the message had no stamp.
    """

    kafka_topic: str
    kafka_partition: int
    kafka_offset: int
    group_id: str | None = None
    node_id: str | None = None
    received_at_ms: int | None = None
    epoch: int | None = None
    batch_no: int | None = None
    oldest: int | None = None


class NumericReading(NamedTuple):
    """A number; None only with a quality that is not good."""

    group_id: str
    node_id: str
    device_id: str
    metric: str
    datatype: int
    sampled_at_ms: int
    is_historical: bool
    quality: int
    value: float | None


class TextReading(NamedTuple):
    """A text; None only with a quality that is not good."""

    group_id: str
    node_id: str
    device_id: str
    metric: str
    datatype: int
    sampled_at_ms: int
    is_historical: bool
    quality: int
    text: str | None


class NumericSeries(NamedTuple):
    """A metric that a birth announced, whose readings are numbers; when is by the node's clock if that is right."""

    group_id: str
    node_id: str
    device_id: str
    metric: str
    datatype: int
    unit: str | None
    announced_at_ms: int | None = None


class TextSeries(NamedTuple):
    """A metric that a birth announced, whose readings are texts; when is as in NumericSeries."""

    group_id: str
    node_id: str
    device_id: str
    metric: str
    datatype: int
    unit: str | None
    announced_at_ms: int | None = None


class Presence(NamedTuple):
    """A birth or a death; the device is empty for the node's own."""

    kafka_topic: str
    kafka_partition: int
    kafka_offset: int
    group_id: str
    node_id: str
    device_id: str
    received_at_ms: int
    online: bool
    bd_seq: int | None


class GapDeclared(NamedTuple):
    """A node's word that readings between two times may be missing."""

    group_id: str
    node_id: str
    device_id: str
    received_at_ms: int
    from_ms: int
    to_ms: int
    reason: str


class CameraFrame(NamedTuple):
    """A JPEG frame of an incident: number `frame_no` of `frames`."""

    group_id: str
    node_id: str
    device_id: str
    event_id: str
    frame_no: int
    frames: int
    event_kind: str
    started_ms: int
    sampled_at_ms: int
    jpeg: bytes


class DeadLetter(NamedTuple):
    """A payload (item -1) or one metric of it that was set aside, and why."""

    kafka_topic: str
    kafka_partition: int
    kafka_offset: int
    item: int
    mqtt_topic: str | None
    metric: str | None
    reason: str
    received_at_ms: int | None
    payload: bytes | None


class Block(NamedTuple):
    """The numeric readings of many records: `stream.ingest.columns.Readings` as bytes."""

    readings: bytes


class Unfinished(NamedTuple):
    """Where decoding stopped because its rows had grown large: the first record of its partition that is left."""

    kafka_topic: str
    kafka_partition: int
    kafka_offset: int


class TaskEnd(NamedTuple):
    """The last row of each of Spark's tasks: which of them it is, and how many records it has decoded."""

    task: int
    records: int


Row: TypeAlias = (
    Record
    | NumericReading
    | TextReading
    | NumericSeries
    | TextSeries
    | Presence
    | GapDeclared
    | CameraFrame
    | DeadLetter
    | Unfinished
)
TableRow: TypeAlias = Row | Block | TaskEnd
RowType: TypeAlias = type[TableRow]
WHOLE_PAYLOAD: Final = -1

# The number in the column `kind` is the place in this tuple.
ROW_TYPES: Final[tuple[RowType, ...]] = (
    Record,
    Block,
    TextReading,
    NumericSeries,
    TextSeries,
    Presence,
    GapDeclared,
    CameraFrame,
    DeadLetter,
    Unfinished,
    TaskEnd,
)
KINDS: Final = {row_type: kind for kind, row_type in enumerate(ROW_TYPES)}

SCHEMA: Final = pa.schema(
    {
        "kind": pa.int8(),
        "kafka_topic": pa.string(),
        "kafka_partition": pa.int32(),
        "kafka_offset": pa.int64(),
        "item": pa.int32(),
        "group_id": pa.string(),
        "node_id": pa.string(),
        "device_id": pa.string(),
        "metric": pa.string(),
        "datatype": pa.int16(),
        "sampled_at_ms": pa.int64(),
        "received_at_ms": pa.int64(),
        "is_historical": pa.bool_(),
        "quality": pa.int16(),
        "readings": pa.binary(),
        "text": pa.string(),
        "unit": pa.string(),
        "announced_at_ms": pa.int64(),
        "online": pa.bool_(),
        "bd_seq": pa.int64(),
        "from_ms": pa.int64(),
        "to_ms": pa.int64(),
        "reason": pa.string(),
        "event_id": pa.string(),
        "frame_no": pa.int32(),
        "frames": pa.int32(),
        "event_kind": pa.string(),
        "started_ms": pa.int64(),
        "jpeg": pa.binary(),
        "epoch": pa.int64(),
        "batch_no": pa.int64(),
        "oldest": pa.int64(),
        "mqtt_topic": pa.string(),
        "payload": pa.binary(),
        "task": pa.int32(),
        "records": pa.int64(),
    }
)


def to_batches(rows: Iterable[TableRow]) -> Iterator[pa.RecordBatch]:
    """The rows as Arrow batches of `SCHEMA`, one for each kind that occurs, in their order within it."""
    by_type: dict[RowType, list[TableRow]] = {}
    for row in rows:
        by_type.setdefault(type(row), []).append(row)
    for row_type, of_type in by_type.items():
        yield _to_batch(row_type, of_type)


def _to_batch(row_type: RowType, rows: list[TableRow]) -> pa.RecordBatch:
    columns = dict(zip(row_type._fields, zip(*rows, strict=True), strict=True))
    columns["kind"] = (KINDS[row_type],) * len(rows)
    return pa.record_batch(
        [
            pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(rows), field.type)
            for field in SCHEMA
        ],
        schema=SCHEMA,
    )
