"""A Kafka record to rows: pure, and total. Any bytes at all give rows or a dead letter, never an exception.

Everything is judged by what the record itself holds, the bridge's `received_at` in place of today's date, so that
a record read again next year gives the same rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from contract.clips import CLIP, ClipFrame
from contract.datatypes import NUMERIC, TEXTS, DataType
from contract.delivery import GAP, Gap
from contract.errors import CodecError, HeaderError, TopicError
from contract.records import DEAD_LETTER_TOPIC, RecordHeaders
from contract.sparkplug import BD_SEQ, Quality, decode
from contract.topics import UPSTREAM, MessageType, Topic, parse_topic
from stream.errors import RejectedError
from stream.ingest.rows import (
    WHOLE_PAYLOAD,
    CameraFrame,
    DeadLetter,
    GapDeclared,
    NumericReading,
    NumericSeries,
    Presence,
    Record,
    TextReading,
    TextSeries,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contract.sparkplug import Metric, Payload
    from stream.ingest.rows import Row

MAX_NAME_CHARACTERS: Final = 256
MAX_TEXT_BYTES: Final = 64 * 1024
KEPT_PAYLOAD_BYTES: Final = 64 * 1024
# One 1 MB payload can hold half a million nameless metrics: past this many, the rest are only counted.
MAX_REJECTED_PER_PAYLOAD: Final = 100
_MAX_QUALITY: Final = 2**15 - 1
_BD_SEQ_END: Final = 256
_MAX_STAMP: Final = 2**63 - 1
# Times a timestamptz and a Python datetime can both hold: 1970 to 9999.
_END_OF_TIME_MS: Final = 253_402_300_799_999
_BIRTHS: Final = {MessageType.NBIRTH, MessageType.DBIRTH}
_DEATHS: Final = {MessageType.NDEATH, MessageType.DDEATH}
# What a node says to Sparkplug hosts, and did not measure.
_CONTROL: Final = ("Node Control/", "Device Control/")
# A birth announces clips, of which no series comes.
_NO_SERIES: Final = frozenset({BD_SEQ, CLIP})
_NO_READINGS: Final = frozenset({BD_SEQ})


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
class _Source:
    """Whose payload it is, and when the bridge had it."""

    topic: Topic
    received_at_ms: int

    @property
    def key(self) -> tuple[str, str, str]:
        return self.topic.group, self.topic.node, self.topic.device or ""


def decode_record(record: KafkaRecord, limits: Limits, dead_letter_topic: str = DEAD_LETTER_TOPIC) -> list[Row]:
    """The rows of a record; its `Record` row comes first, always."""
    try:
        headers = _headers(record)
    except HeaderError as exc:
        return [_record(record), _dead_payload(record, str(exc))]
    try:
        source = _Source(_upstream_topic(headers.topic), headers.received_at_ms)
    except TopicError as exc:
        reason = headers.reason if record.topic == dead_letter_topic else None
        return [_record(record), _dead_payload(record, reason or str(exc), headers)]
    opening = _record(record, source, headers)
    if record.topic == dead_letter_topic:
        return [opening, _dead_payload(record, headers.reason or "the bridge gave no reason", headers)]
    if record.value is None:
        return [opening, _dead_payload(record, "the record has no value", headers)]
    try:
        payload = decode(record.value)
    except CodecError as exc:
        return [opening, _dead_payload(record, str(exc), headers)]
    return [opening, *_payload_rows(record, source, payload, limits)]


def _headers(record: KafkaRecord) -> RecordHeaders:
    headers = RecordHeaders.from_kafka([(key, value) for key, value in record.headers if value is not None])
    if not 0 < headers.received_at_ms <= _END_OF_TIME_MS:
        raise HeaderError(f"received_at {headers.received_at_ms}: allowed are 1 to {_END_OF_TIME_MS} ms")
    return headers


def _upstream_topic(text: str) -> Topic:
    topic = parse_topic(text)
    if topic.message_type not in UPSTREAM:
        raise TopicError(f"topic {text!r}: {topic.message_type} goes to nodes, allowed are {', '.join(UPSTREAM)}")
    return topic


def _record(record: KafkaRecord, source: _Source | None = None, headers: RecordHeaders | None = None) -> Record:
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


def _payload_rows(record: KafkaRecord, source: _Source, payload: Payload, limits: Limits) -> Iterator[Row]:
    kind = source.topic.message_type
    if kind in _DEATHS or kind in _BIRTHS:
        at = (record.topic, record.partition, record.offset)
        yield Presence(*at, *source.key, source.received_at_ms, kind in _BIRTHS, _bd_seq(payload))
    if kind in _DEATHS:
        return
    rejected = {item.index: (item.name, item.reason) for item in payload.rejected}
    to_row: Callable[[_Source, Metric, Limits], Row] = _series if kind in _BIRTHS else _reading
    passed_over = _NO_SERIES if kind in _BIRTHS else _NO_READINGS
    # Metrics that the codec rejected are missing from `metrics`, but count in the index.
    indices = [i for i in range(len(payload.metrics) + len(payload.rejected)) if i not in rejected]
    for index, metric in zip(indices, payload.metrics, strict=True):
        if metric.name in passed_over or metric.name.startswith(_CONTROL):
            continue
        try:
            yield to_row(source, metric, limits)
        except (RejectedError, CodecError) as exc:
            rejected[index] = (metric.name, str(exc))
    yield from _dead_metrics(record, source, rejected)


def _bd_seq(payload: Payload) -> int | None:
    numbers = (int(m.value) for m in payload.metrics if m.name == BD_SEQ and isinstance(m.value, int))
    return next((number for number in numbers if 0 <= number < _BD_SEQ_END), None)


def _series(source: _Source, metric: Metric, limits: Limits) -> Row:  # noqa: ARG001 - in _reading's place
    _check_text(metric.name, "metric name", MAX_NAME_CHARACTERS)
    if metric.unit is not None:
        _check_text(metric.unit, "unit", MAX_NAME_CHARACTERS)
    row_type = TextSeries if _is_text(metric.datatype) else NumericSeries
    return row_type(*source.key, metric.name, metric.datatype, metric.unit)


def _reading(source: _Source, metric: Metric, limits: Limits) -> Row:
    _check_text(metric.name, "metric name", MAX_NAME_CHARACTERS)
    if metric.name in _OWN_ROWS:
        return _OWN_ROWS[metric.name](source, metric, limits)
    _check_time(metric.timestamp_ms, source.received_at_ms, limits)
    if not 0 <= metric.quality <= _MAX_QUALITY:
        raise RejectedError(f"quality {metric.quality}: allowed are 0 to {_MAX_QUALITY}")
    if metric.value is None and metric.quality == Quality.GOOD:
        raise RejectedError("null with good quality: a point that could not be read needs a quality that says so")
    opening = (
        *source.key,
        metric.name,
        metric.datatype,
        metric.timestamp_ms,
        metric.is_historical,
        int(metric.quality),
    )
    if _is_text(metric.datatype):
        return TextReading(*opening, _text(metric))
    return NumericReading(*opening, _number(metric))


def _is_text(datatype: DataType) -> bool:
    if datatype not in TEXTS and datatype not in NUMERIC and datatype != DataType.DATETIME:
        raise RejectedError(f"{datatype.name} is not stored: allowed are numbers, booleans, times and texts")
    return datatype in TEXTS


def _number(metric: Metric) -> float | None:
    """The number as float64, to which integers beyond 2**53 are rounded (docs/stream.md)."""
    if metric.value is None:
        return None
    assert isinstance(metric.value, int | float)  # the codec holds a value to its datatype
    value = float(metric.value)
    if not math.isfinite(value):
        raise RejectedError(f"{metric.datatype.name} {value}: a number must be finite")
    return value / 1000 if metric.datatype == DataType.DATETIME else value


def _text(metric: Metric) -> str | None:
    if metric.value is None:
        return None
    assert isinstance(metric.value, str)  # the codec holds a value to its datatype
    if len(metric.value.encode()) > MAX_TEXT_BYTES:
        raise RejectedError(f"a text of {len(metric.value.encode())} bytes: allowed are {MAX_TEXT_BYTES}")
    _check_text(metric.value, "text", MAX_TEXT_BYTES)
    return metric.value


def _gap(source: _Source, metric: Metric, limits: Limits) -> GapDeclared:
    gap = Gap.from_metric(metric)
    if not 0 < gap.from_ms <= gap.to_ms <= _latest(source.received_at_ms, limits):
        times = f"from {_utc(gap.from_ms)} to {_utc(gap.to_ms)}"
        raise RejectedError(f"a gap {times}, received {_utc(source.received_at_ms)}")
    _check_text(gap.reason, "reason of a gap", MAX_TEXT_BYTES)
    return GapDeclared(*source.key, source.received_at_ms, int(gap.from_ms), int(gap.to_ms), gap.reason)


def _camera_frame(source: _Source, metric: Metric, limits: Limits) -> CameraFrame:
    frame = ClipFrame.from_metric(metric)
    for at_ms in (metric.timestamp_ms, frame.started_at_ms):
        _check_time(at_ms, source.received_at_ms, limits)
    return CameraFrame(
        *source.key,
        frame.event_id,
        frame.frame_no,
        frame.frames,
        frame.kind,
        frame.started_at_ms,
        metric.timestamp_ms,
        frame.jpeg,
    )


# Metrics of ours that are no readings.
_OWN_ROWS: Final[dict[str, Callable[[_Source, Metric, Limits], Row]]] = {GAP: _gap, CLIP: _camera_frame}


def _check_text(text: str, what: str, max_characters: int) -> None:
    if len(text) > max_characters:
        raise RejectedError(f"a {what} of {len(text)} characters: allowed are {max_characters}")
    if "\0" in text:
        raise RejectedError(f"a {what} with a NUL character, which PostgreSQL cannot store")


def _check_time(sampled_at_ms: int, received_at_ms: int, limits: Limits) -> None:
    if sampled_at_ms < received_at_ms - limits.max_age_ms:
        age = f"more than {limits.max_age_ms / 86_400_000:g} days before"
    elif sampled_at_ms > _latest(received_at_ms, limits):
        age = f"more than {limits.max_future_ms / 1000:g} s after"
    else:
        return
    raise RejectedError(f"sampled at {_utc(sampled_at_ms)}, {age} it was received ({_utc(received_at_ms)})")


def _latest(received_at_ms: int, limits: Limits) -> int:
    return min(received_at_ms + limits.max_future_ms, _END_OF_TIME_MS)


def _utc(ms: int) -> str:
    if ms > _END_OF_TIME_MS:
        return f"{ms} ms"
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _dead_payload(record: KafkaRecord, reason: str, headers: RecordHeaders | None = None) -> DeadLetter:
    return DeadLetter(
        record.topic,
        record.partition,
        record.offset,
        WHOLE_PAYLOAD,
        _shown(headers.topic) if headers else None,
        None,
        _shown(reason),
        headers.received_at_ms if headers else None,
        record.value and record.value[:KEPT_PAYLOAD_BYTES],
    )


def _dead_metrics(record: KafkaRecord, source: _Source, rejected: dict[int, tuple[str, str]]) -> Iterator[DeadLetter]:
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
