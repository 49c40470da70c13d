"""A Kafka record to rows: pure, and total. Any bytes at all give rows or a dead letter, never an exception.

Everything is judged by what the record itself holds, the bridge's `received_at` in place of today's date, so that
a record read again next year gives the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from contract.errors import CodecError, HeaderError, TopicError
from contract.records import DEAD_LETTER_TOPIC, RecordHeaders
from contract.sparkplug import BD_SEQ, decode
from contract.topics import UPSTREAM, MessageType, Topic, parse_topic
from stream.errors import RejectedError
from stream.ingest.metrics import (
    END_OF_TIME_MS,
    MAX_NAME_CHARACTERS,
    birth_rows,
    data_rows,
    is_no_reading,
    is_no_series,
    reading_row,
)
from stream.ingest.rows import WHOLE_PAYLOAD, DeadLetter, Presence, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.sparkplug import Payload
    from stream.ingest.rows import Row

KEPT_PAYLOAD_BYTES: Final = 64 * 1024
# One 1 MB payload can hold half a million nameless metrics: past this many, the rest are only counted.
MAX_REJECTED_PER_PAYLOAD: Final = 100
_BD_SEQ_END: Final = 256
_MAX_TOPICS: Final = 1 << 14  # some ten megabytes
_MAX_STAMP: Final = 2**63 - 1
_BIRTHS: Final = {MessageType.NBIRTH, MessageType.DBIRTH}
_DEATHS: Final = {MessageType.NDEATH, MessageType.DDEATH}


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """A record as it came from Kafka."""

    topic: str
    partition: int
    offset: int
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Limits:
    """How far from the bridge's `received_at` a reading's time may lie."""

    max_age_ms: int
    max_future_ms: int


@dataclass(frozen=True, slots=True)
class Source:
    """Whose payload it is, and when the bridge had it."""

    topic: Topic
    received_at_ms: int

    @property
    def key(self) -> tuple[str, str, str]:
        """Group, node and device; the device is empty for the node's own."""
        return self.topic.group, self.topic.node, self.topic.device or ""


def decode_record(record: KafkaRecord, limits: Limits, dead_letter_topic: str = DEAD_LETTER_TOPIC) -> list[Row]:
    """The rows of a record; its `Record` row comes first, always."""
    opening, source = open_record(record, dead_letter_topic)
    if isinstance(source, DeadLetter):
        return [opening, source]
    return [opening, *payload_rows(record, source, limits)]


def open_record(record: KafkaRecord, dead_letter_topic: str = DEAD_LETTER_TOPIC) -> tuple[Record, Source | DeadLetter]:
    """The record's own row, and whose payload it has, or why that is set aside unread."""
    try:
        headers = _headers(record)
    except HeaderError as exc:
        return _record(record), _dead_payload(record, str(exc))
    told = headers.topic, headers.received_at_ms
    try:
        source = Source(_upstream_topic(headers.topic), headers.received_at_ms)
    except TopicError as exc:
        reason = headers.reason if record.topic == dead_letter_topic else None
        return _record(record), _dead_payload(record, reason or str(exc), told)
    opening = _record(record, source, headers)
    if record.topic == dead_letter_topic:
        return opening, _dead_payload(record, headers.reason or "the bridge gave no reason", told)
    if record.value is None:
        return opening, _dead_payload(record, "the record has no value", told)
    return opening, source


def payload_rows(record: KafkaRecord, source: Source, limits: Limits) -> list[Row]:
    """The rows of an opened record's payload."""
    try:
        payload = decode(record.value or b"")
    except CodecError as exc:
        return [_dead_payload(record, str(exc), (str(source.topic), source.received_at_ms))]
    return list(_payload_rows(record, source, payload, limits))


def metric_rows(source: Source, encoded: bytes, limits: Limits) -> list[Row | None]:
    """The row of each metric of a data message, None for what was not measured.

    Raises CodecError and RejectedError where one of them, or all, would have to be set aside.
    """
    payload = decode(encoded)
    if payload.rejected:
        raise RejectedError(payload.rejected[0].reason)
    return [None if is_no_reading(m.name) else reading_row(source, m, limits) for m in payload.metrics]


def _headers(record: KafkaRecord) -> RecordHeaders:
    headers = RecordHeaders.from_kafka([(key, value) for key, value in record.headers if value is not None])
    if not 0 < headers.received_at_ms <= END_OF_TIME_MS:
        raise HeaderError(f"received_at {headers.received_at_ms}: allowed are 1 to {END_OF_TIME_MS} ms")
    return headers


@lru_cache(_MAX_TOPICS)
def _upstream_topic(text: str) -> Topic:
    topic = parse_topic(text)
    if topic.message_type not in UPSTREAM:
        raise TopicError(f"topic {text!r}: {topic.message_type} goes to nodes, allowed are {', '.join(UPSTREAM)}")
    return topic


def _record(record: KafkaRecord, source: Source | None = None, headers: RecordHeaders | None = None) -> Record:
    opening = Record(record.topic, record.partition, record.offset)
    if source is None or headers is None:
        return opening
    return Record(*opening[:3], source.topic.group, source.topic.node, source.received_at_ms, *_stamp(headers))


def _stamp(headers: RecordHeaders) -> tuple[int, int, int | None] | tuple[()]:
    """The batch's stamp; nothing of one that no node could have sent, for others than the bridge may write to Kafka."""
    batch, oldest = headers.batch, headers.oldest
    if batch is None or not (0 < batch.epoch <= _MAX_STAMP and 0 < batch.batch_no <= _MAX_STAMP):
        return ()
    return batch.epoch, batch.batch_no, oldest if oldest is not None and 0 < oldest <= batch.batch_no else None


def _payload_rows(record: KafkaRecord, source: Source, payload: Payload, limits: Limits) -> Iterator[Row]:
    kind = source.topic.message_type
    if kind in _DEATHS or kind in _BIRTHS:
        at = (record.topic, record.partition, record.offset)
        yield Presence(*at, *source.key, source.received_at_ms, kind in _BIRTHS, _bd_seq(payload))
    if kind in _DEATHS:
        return
    rejected = {item.index: (item.name, item.reason) for item in payload.rejected}
    to_rows, is_passed_over = (birth_rows, is_no_series) if kind in _BIRTHS else (data_rows, is_no_reading)
    # Metrics that the codec rejected are missing from `metrics`, but count in the index.
    indices = [i for i in range(len(payload.metrics) + len(payload.rejected)) if i not in rejected]
    for index, metric in zip(indices, payload.metrics, strict=True):
        if is_passed_over(metric.name):
            continue
        try:
            yield from to_rows(source, metric, limits)
        except (RejectedError, CodecError) as exc:
            rejected[index] = (metric.name, str(exc))
    yield from _dead_metrics(record, source, rejected)


def _bd_seq(payload: Payload) -> int | None:
    numbers = (int(m.value) for m in payload.metrics if m.name == BD_SEQ and isinstance(m.value, int))
    return next((number for number in numbers if 0 <= number < _BD_SEQ_END), None)


def _dead_payload(record: KafkaRecord, reason: str, told: tuple[str, int] | None = None) -> DeadLetter:
    """`told`: the MQTT topic and when the bridge had it."""
    return DeadLetter(
        record.topic,
        record.partition,
        record.offset,
        WHOLE_PAYLOAD,
        _shown(told[0]) if told else None,
        None,
        _shown(reason),
        told[1] if told else None,
        record.value and record.value[:KEPT_PAYLOAD_BYTES],
    )


def _dead_metrics(record: KafkaRecord, source: Source, rejected: dict[int, tuple[str, str]]) -> Iterator[DeadLetter]:
    told = sorted(rejected)[:MAX_REJECTED_PER_PAYLOAD]
    for index in told:
        name, reason = rejected[index]
        if index == told[-1] and len(rejected) > len(told):
            reason = f"{reason} (and {len(rejected) - len(told)} more metrics of this payload)"
        yield DeadLetter(
            record.topic,
            record.partition,
            record.offset,
            index,
            str(source.topic),
            _shown(name[:MAX_NAME_CHARACTERS]),
            _shown(reason),
            source.received_at_ms,
            record.value and record.value[:KEPT_PAYLOAD_BYTES] if index == told[0] else None,
        )


def _shown(text: str) -> str:
    """Text for a person, which PostgreSQL can store."""
    return text.replace("\0", "\\0")[:1024]
