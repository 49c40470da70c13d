"""MQTT 5 packets as bytes, as far as a bridge meets them often: PUBLISH in, PUBACK out. Pure.

The rest is left to paho, which takes 90 us for a PUBLISH; this takes 2.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

PUBLISH: Final = 0x30
PUBACK: Final = 0x40
# A stamp takes about a hundred bytes.
MAX_PROPERTY_BYTES: Final = 8 * 1024
_QOS_BITS: Final = 0x06
_TYPE_AND_QOS_2: Final = 0xF4
_QOS_SHIFT: Final = 1
_QOS_MASK: Final = 0x03
_MORE: Final = 0x80
_MAX_LENGTH_BYTES: Final = 4
_PUBACK: Final = struct.Struct("!BBH")

_USER_PROPERTY: Final = 0x26
_SUBSCRIPTION_ID: Final = 0x0B
# How long the values of a PUBLISH's other properties are; None: two bytes that say it (MQTT 5, table 2-4).
_SIZES: Final = {0x01: 1, 0x02: 4, 0x23: 2, 0x03: None, 0x08: None, 0x09: None}


class MalformedError(ValueError):
    """Bytes that are no MQTT packet: nothing after them on the connection can be trusted."""


class Publish(NamedTuple):
    """A PUBLISH; `properties` is empty where they were too long. `size_bytes` is that of all."""

    header: int
    topic: bytes
    message_id: int
    properties: bytes
    payload: bytes
    size_bytes: int

    @property
    def qos(self) -> int:
        """0, 1 or 2."""
        return self.header >> _QOS_SHIFT & _QOS_MASK

    @property
    def is_retained(self) -> bool:
        """Whether the broker had kept it for whoever subscribes."""
        return bool(self.header & 1)


class Packet(NamedTuple):
    """Any other packet: its first byte, and what follows its length."""

    header: int
    body: bytes


def packet_bounds(received: bytes | bytearray, begin: int) -> tuple[int, int] | None:
    """Where the body of the packet that begins there begins and ends; None while some of it is missing.

    Raises MalformedError for a length of more than four bytes.
    """
    size = len(received)
    if begin + 1 < size and not received[begin + 1] & _MORE:
        end = begin + 2 + received[begin + 1]
        return (begin + 2, end) if end <= size else None
    length = 0
    for count in range(_MAX_LENGTH_BYTES):
        at = begin + 1 + count
        if at >= size:
            return None
        byte = received[at]
        length |= (byte & ~_MORE) << 7 * count
        if not byte & _MORE:
            end = at + 1 + length
            return (at + 1, end) if end <= size else None
    raise MalformedError("a packet's length of more than four bytes")


def read_packets(received: bytes) -> tuple[list[Publish | Packet], int]:
    """All whole packets, and where the first begins that is not; raises MalformedError.

    A PUBLISH at QoS 2, which is none of ours to take, is any other packet.
    """
    found: list[Publish | Packet] = []
    at = 0
    while (bounds := packet_bounds(received, at)) is not None:
        header, (begin, at) = received[at], bounds
        if header & _TYPE_AND_QOS_2 == PUBLISH:
            found.append(read_publish(header, received, begin, at))
        else:
            found.append(Packet(header, received[begin:at]))
    return found, at


def read_publish(header: int, received: bytes, begin: int, end: int) -> Publish:
    """A PUBLISH from its first byte and what follows its length; raises MalformedError."""
    try:
        at = begin + 2 + (received[begin] << 8 | received[begin + 1])
        topic = received[begin + 2 : at]
        message_id = 0
        if header & _QOS_BITS:
            message_id = received[at] << 8 | received[at + 1]
            at += 2
        size = received[at]
        at += 1
    except IndexError:
        raise MalformedError("a PUBLISH that is cut short") from None
    if size & _MORE:
        bounds = packet_bounds(received, at - 2)
        if bounds is None:
            raise MalformedError("a PUBLISH that is cut short")
        at, size = bounds[0], bounds[1] - bounds[0]
    payload_at = at + size
    if payload_at > end:
        raise MalformedError("a PUBLISH that is cut short")
    properties = received[at:payload_at] if size <= MAX_PROPERTY_BYTES else b""
    return Publish(header, topic, message_id, properties, received[payload_at:end], end - begin)


def read_user_properties(properties: bytes) -> list[tuple[str, str]]:
    """The user properties among a PUBLISH's; none when any of them cannot be read."""
    found = []
    at, size = 0, len(properties)
    try:
        while at < size:
            kind = properties[at]
            at += 1
            if kind == _USER_PROPERTY:
                middle = at + 2 + (properties[at] << 8 | properties[at + 1])
                end = middle + 2 + (properties[middle] << 8 | properties[middle + 1])
                found.append((properties[at + 2 : middle].decode(), properties[middle + 2 : end].decode()))
                at = end
            else:
                at = _past(kind, properties, at)
    except (IndexError, KeyError, UnicodeDecodeError):
        return []
    return found if at == size else []


def _past(kind: int, properties: bytes, at: int) -> int:
    """Where the value of another property ends; raises KeyError for one that no PUBLISH has."""
    if kind == _SUBSCRIPTION_ID:
        while properties[at] & _MORE:
            at += 1
        return at + 1
    size = _SIZES[kind]
    return at + (2 + (properties[at] << 8 | properties[at + 1]) if size is None else size)


def pubacks(message_ids: Iterable[int]) -> bytes:
    """One PUBACK after the other."""
    return b"".join(_PUBACK.pack(PUBACK, 2, message_id) for message_id in message_ids)
