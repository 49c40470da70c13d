"""What becomes of an MQTT message: a record, a dead letter, or nothing. No payload is decoded but compressed ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from contract.compression import unpacked
from contract.delivery import BatchStamp
from contract.errors import CodecError, HeaderError, TopicError
from contract.records import RecordHeaders, record_key
from contract.topics import NAMESPACE, MessageType, Topic, parse_topic

if TYPE_CHECKING:
    from bridge.marks import NodeId

DEAD_LETTER_BYTES: Final = 64 * 1024
DATA: Final = frozenset({MessageType.NDATA, MessageType.DDATA})
_COMMANDS: Final = frozenset({MessageType.NCMD, MessageType.DCMD})
_MAX_REASON_CHARS: Final = 1000
# A Sparkplug topic of the longest names is shorter; MQTT's may have 64 KiB, and senders choose them.
_MAX_TOPIC_CHARS: Final = 512


@dataclass(frozen=True, slots=True)
class Message:
    """An MQTT message as it came: `generation` is its connection, `received_at_ms` UTC."""

    generation: int
    message_id: int
    qos: int
    topic: str
    payload: bytes
    properties: tuple[tuple[str, str], ...]
    received_at_ms: int


@dataclass(frozen=True, slots=True)
class Letter:
    """What goes to Kafka for a message; with a `reason` in its headers it is a dead letter.

    `node`, `device` and `message_type` are None where the topic does not tell; `stamp` is that of DATA.
    """

    key: bytes
    value: bytes
    headers: RecordHeaders
    node: NodeId | None = None
    device: str | None = None
    message_type: MessageType | None = None
    stamp: BatchStamp | None = None

    @property
    def is_dead(self) -> bool:
        """Whether it goes to the dead-letter topic."""
        return self.headers.reason is not None


def triage(message: Message, max_payload_bytes: int) -> Letter | None:
    """What goes to Kafka for a message; None for what is not meant for it: commands and host states."""
    if _is_downstream(message.topic):
        return None
    parsed = _parse(message.topic[: _MAX_TOPIC_CHARS + 1])
    if isinstance(parsed, str):
        return _letter(message, None, None, parsed)
    stamp, fault = _stamp(message, parsed)
    fault = _payload_fault(message, parsed, max_payload_bytes) or fault
    letter = _letter(message, parsed, stamp, fault)
    return letter if fault else _unpacked(letter, max_payload_bytes)


def set_aside(letter: Letter, reason: str) -> Letter:
    """The dead letter for what can be of no use to those who read the payloads."""
    headers = replace(letter.headers, reason=reason[:_MAX_REASON_CHARS])
    return replace(letter, value=letter.value[:DEAD_LETTER_BYTES], headers=headers)


def refused(letter: Letter, reason: str) -> Letter:
    """The dead letter for a record that Kafka refused; a refused dead letter goes without its payload."""
    if letter.headers.reason is None:
        return set_aside(letter, f"Kafka refused {len(letter.value)} bytes: {reason}")
    return replace(set_aside(letter, f"{letter.headers.reason} (payload left out: {reason})"), value=b"")


def _is_downstream(topic: str) -> bool:
    match topic.split("/"):
        case [namespace, "STATE", _] if namespace == NAMESPACE:
            return True
        case [namespace, _, kind, *_] if namespace == NAMESPACE:
            return kind in _COMMANDS
        case _:
            return False


@lru_cache(maxsize=16_384)
def _parse(topic: str) -> Topic | str:
    if len(topic) > _MAX_TOPIC_CHARS:
        return f"a topic of more than {_MAX_TOPIC_CHARS} characters"
    try:
        return parse_topic(topic)
    except TopicError as exc:
        return str(exc)


def _stamp(message: Message, topic: Topic) -> tuple[BatchStamp | None, str | None]:
    if topic.message_type not in DATA:
        return None, None
    try:
        return BatchStamp.from_properties(message.properties), None
    except HeaderError as exc:
        return None, str(exc)


def _payload_fault(message: Message, topic: Topic, max_payload_bytes: int) -> str | None:
    size = len(message.payload)
    if size > max_payload_bytes:
        return f"payload of {size} bytes: allowed are at most {max_payload_bytes}"
    if size == 0 and topic.message_type in DATA:
        return f"{topic.message_type} without a payload"
    return None


def _unpacked(letter: Letter, max_bytes: int) -> Letter:
    try:
        value = unpacked(letter.value, max_bytes)
    except CodecError as exc:
        return set_aside(letter, str(exc))
    return letter if value is letter.value else replace(letter, value=value)


def _letter(message: Message, topic: Topic | None, stamp: BatchStamp | None, reason: str | None) -> Letter:
    shown = message.topic[:_MAX_TOPIC_CHARS]
    return Letter(
        key=record_key(topic.group, topic.node) if topic else shown.encode(),
        value=message.payload if reason is None else message.payload[:DEAD_LETTER_BYTES],
        headers=RecordHeaders(
            topic=shown,
            received_at_ms=message.received_at_ms,
            batch=stamp.batch if stamp else None,
            reason=reason and reason[:_MAX_REASON_CHARS],
            oldest=stamp.oldest if stamp else None,
        ),
        node=(topic.group, topic.node) if topic else None,
        device=topic.device if topic else None,
        message_type=topic.message_type if topic else None,
        stamp=stamp,
    )
