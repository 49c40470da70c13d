"""Plain metrics - a number, of good quality, without properties - written straight to the wire.

A poll is thousands of these, and building a protobuf message for each costs five times as much as polling them.
The bytes are those of `contract.sparkplug.encode`, which writes everything else.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from contract.datatypes import INTEGERS, NUMERIC, WIRE_FIELDS, DataType
from contract.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PlainMetric: TypeAlias = tuple[str, DataType, float, int]
"""Name, datatype (of `PLAIN`), value, time (UTC ms)."""

PLAIN: Final = NUMERIC

# Protobuf's tags: field number << 3 | wire type.
_PAYLOAD_TIMESTAMP: Final = b"\x08"
_PAYLOAD_METRIC: Final = b"\x12"
_NAME: Final = b"\x0a"
_TIMESTAMP: Final = b"\x18"
_DATATYPE: Final = b"\x20"
_VALUES: Final = {
    "int_value": b"\x50",
    "long_value": b"\x58",
    "float_value": b"\x65",
    "double_value": b"\x69",
    "boolean_value": b"\x70",
}
_BOOLEANS: Final[dict[float, bytes]] = {False: b"\0", True: b"\1"}
_MAX_NAMES: Final = 1 << 15


def encode_plain(timestamp_ms: int, metrics: Iterable[PlainMetric]) -> bytes:
    """A payload of plain metrics, without a sequence number; raises CodecError for a value that its type cannot hold.

    What `encode` makes of other metrics may be appended: a protobuf message is continued by another of its kind.
    """
    parts = [_PAYLOAD_TIMESTAMP, _varint(timestamp_ms)]
    at_ms, stamp, stamp_size = -1, b"", 0
    try:
        for name, datatype, value, sampled_at_ms in metrics:
            if sampled_at_ms != at_ms:
                at_ms, stamp = sampled_at_ms, _TIMESTAMP + _varint(sampled_at_ms)
                stamp_size = len(stamp)
            heads, tail, pack = _frame(name, datatype)
            packed = pack(value)
            parts += (heads[stamp_size + len(packed)], stamp, tail, packed)
    except (struct.error, OverflowError, TypeError, KeyError) as exc:
        raise CodecError(f"metric {name!r}: {datatype!r} cannot hold {value!r} as a plain value: {exc}") from exc
    return b"".join(parts)


class _Heads(dict[int, bytes]):
    """What stands before the time of every metric of a name, by how many bytes its time and its value take."""

    def __init__(self, name: str, tail: bytes) -> None:
        encoded = name.encode()
        self._name = _NAME + _varint(len(encoded)) + encoded
        self._size = len(self._name) + len(tail)

    def __missing__(self, more: int) -> bytes:
        self[more] = head = _PAYLOAD_METRIC + _varint(self._size + more) + self._name
        return head


@lru_cache(_MAX_NAMES)
def _frame(name: str, datatype: DataType) -> tuple[_Heads, bytes, Callable[[float], bytes]]:
    """What stands before the time of every metric of this name, what behind it, and how its value is packed."""
    tail = _DATATYPE + _varint(datatype) + _VALUES[WIRE_FIELDS[datatype]]
    return _Heads(name, tail), tail, _packer(datatype)


@lru_cache
def _packer(datatype: DataType) -> Callable[[float], bytes]:
    match datatype:
        case DataType.FLOAT:
            return struct.Struct("<f").pack
        case DataType.DOUBLE:
            return struct.Struct("<d").pack
        case DataType.BOOLEAN:
            return _BOOLEANS.__getitem__
        case _:
            return _integer_packer(datatype)


def _integer_packer(datatype: DataType) -> Callable[[float], bytes]:
    width = INTEGERS[datatype]
    low, high, mask = width.low, width.high, (1 << max(width.bits, 32)) - 1

    def pack(value: float) -> bytes:
        if not isinstance(value, int) or not low <= value <= high:
            raise OverflowError(f"allowed are whole numbers from {low} to {high}")
        return _varint(value & mask)

    return pack


@lru_cache(1 << 12)
def _varint(number: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the lowest first."""
    if number < 0:
        raise OverflowError(f"{number} is negative")
    written = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - what seven bits hold
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
