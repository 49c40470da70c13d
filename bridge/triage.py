"""What becomes of an MQTT message: a record, a dead letter, or nothing. No payload is decoded but compressed ones."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.stamp import Stamp, read_stamp
from contract.compression import unpacked
from contract.delivery import BatchId
from contract.errors import CodecError, HeaderError, TopicError
from contract.records import RecordHeaders, record_key
from contract.topics import NAMESPACE, MessageType, parse_topic

if TYPE_CHECKING:
    from bridge.marks import NodeId
    from bridge.packets import Publish

DEAD_LETTER_BYTES: Final = 64 * 1024
DATA: Final = frozenset({MessageType.NDATA, MessageType.DDATA})
_COMMANDS: Final = frozenset({MessageType.NCMD, MessageType.DCMD})
_MAX_REASON_CHARS: Final = 1000
# A Sparkplug topic of the longest names is shorter; MQTT's may have 64 KiB, and senders choose them.
_MAX_TOPIC_CHARS: Final = 512
_MAX_TOPIC_BYTES: Final = 4 * (_MAX_TOPIC_CHARS + 1)
# Payloads shrink to a tenth or, of many metrics with one value, a fiftieth. DEFLATE can reach a thousandth: a bomb.
_MAX_UNPACK_RATIO: Final = 100
_ALWAYS_ALLOWED_BYTES: Final = 64 * 1024


class Route(NamedTuple):
    """What a topic tells, with a `fault` where it is not one of payloads. `topic` is cut to what can be one."""

    topic: str
    topic_bytes: bytes
    key: bytes
    node: NodeId | None = None
    device: str | None = None
    message_type: MessageType | None = None
    fault: str | None = None
    is_downstream: bool = False


class Letter(NamedTuple):
    """What goes to Kafka for a message; with a `reason` it is a dead letter. `stamp` is that of DATA.

    A tuple, and not a data class: one is made of every message.
    """

    route: Route
    value: bytes
    received_at_ms: int
    stamp: Stamp | None = None
    reason: str | None = None

    @property
    def key(self) -> bytes:
        """The record's key."""
        return self.route.key

    @property
    def node(self) -> NodeId | None:
        """Whose it is; None where the topic does not tell."""
        return self.route.node

    @property
    def device(self) -> str | None:
        """Of which of the node's devices it is."""
        return self.route.device

    @property
    def message_type(self) -> MessageType | None:
        """Its Sparkplug type."""
        return self.route.message_type

    @property
    def is_dead(self) -> bool:
        """Whether it goes to the dead-letter topic."""
        return self.reason is not None

    @property
    def headers(self) -> RecordHeaders:
        """The headers beside the payload."""
        return RecordHeaders(
            topic=self.route.topic,
            received_at_ms=self.received_at_ms,
            batch=BatchId(self.stamp.epoch, self.stamp.batch_no) if self.stamp else None,
            reason=self.reason,
            oldest=self.stamp.oldest if self.stamp else None,
        )


def triage(message: Publish, received_at_ms: int, max_payload_bytes: int) -> Letter | None:
    """What goes to Kafka for a message; None for what is not meant for it: commands and host states."""
    route = _route(message.topic[:_MAX_TOPIC_BYTES])
    if route.is_downstream:
        return None
    stamp, fault = None, route.fault
    if fault is None:
        if route.message_type in DATA:
            try:
                stamp = read_stamp(message.properties)
            except HeaderError as exc:
                fault = str(exc)
        fault = _payload_fault(message.payload, route, max_payload_bytes) or fault
    if fault is not None:
        return set_aside(Letter(route, message.payload, received_at_ms, stamp), fault)
    return _unpacked(Letter(route, message.payload, received_at_ms, stamp), max_payload_bytes)


def set_aside(letter: Letter, reason: str) -> Letter:
    """The dead letter for what can be of no use to those who read the payloads."""
    return letter._replace(value=letter.value[:DEAD_LETTER_BYTES], reason=reason[:_MAX_REASON_CHARS])


def refused(letter: Letter, reason: str) -> Letter:
    """The dead letter for a record that Kafka refused; a refused dead letter goes without its payload."""
    if letter.reason is None:
        return set_aside(letter, f"Kafka refused {len(letter.value)} bytes: {reason}")
    return set_aside(letter, f"{letter.reason} (payload left out: {reason})")._replace(value=b"")


@lru_cache(maxsize=16_384)
def _route(name: bytes) -> Route:
    whole = name.decode(errors="replace")
    topic = whole[:_MAX_TOPIC_CHARS]
    encoded = topic.encode(errors="replace")
    if _is_downstream(whole):
        return Route(topic, encoded, encoded, is_downstream=True)
    if len(whole) > _MAX_TOPIC_CHARS:
        return Route(topic, encoded, encoded, fault=f"a topic of more than {_MAX_TOPIC_CHARS} characters")
    try:
        parsed = parse_topic(topic)
    except TopicError as exc:
        return Route(topic, encoded, encoded, fault=str(exc))
    node = parsed.group, parsed.node
    return Route(topic, encoded, record_key(*node), node, parsed.device, parsed.message_type)


def _is_downstream(topic: str) -> bool:
    match topic.split("/"):
        case [namespace, "STATE", _] if namespace == NAMESPACE:
            return True
        case [namespace, _, kind, *_] if namespace == NAMESPACE:
            return kind in _COMMANDS
        case _:
            return False


def _payload_fault(payload: bytes, route: Route, max_payload_bytes: int) -> str | None:
    size = len(payload)
    if size > max_payload_bytes:
        return f"payload of {size} bytes: allowed are at most {max_payload_bytes}"
    if size == 0 and route.message_type in DATA:
        return f"{route.message_type} without a payload"
    return None


def _unpacked(letter: Letter, max_payload_bytes: int) -> Letter:
    by_ratio = max(_ALWAYS_ALLOWED_BYTES, _MAX_UNPACK_RATIO * len(letter.value))
    try:
        value = unpacked(letter.value, min(max_payload_bytes, by_ratio))
    except CodecError as exc:
        bound = f" (at most {_MAX_UNPACK_RATIO} times as much, or {_ALWAYS_ALLOWED_BYTES} bytes)"
        return set_aside(letter, f"{exc}{bound if by_ratio < max_payload_bytes else ''}")
    return letter if value is letter.value else letter._replace(value=value)
