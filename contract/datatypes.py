"""Sparkplug B data types and the rules by which a value travels in each (Sparkplug 3.0, 6.4.16 and 6.4.17).

Integers travel in unsigned fields: a negative number wraps round (two's complement), to 32 bits for
the types up to 32 and to 64 for Int64. Arrays travel as packed little-endian bytes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from contract.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

Scalar: TypeAlias = int | float | bool | str | bytes
Array: TypeAlias = tuple[int, ...] | tuple[float, ...] | tuple[bool, ...] | tuple[str, ...]
Value: TypeAlias = Scalar | Array | None


class DataType(IntEnum):
    """The number that stands on the wire for each data type."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTYSET = 20
    PROPERTYSETLIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATETIME_ARRAY = 34


@dataclass(frozen=True, slots=True)
class IntegerWidth:
    """How wide an integer is, and whether it has a sign."""

    bits: int
    signed: bool

    @property
    def low(self) -> int:
        """The smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest value."""
        return (1 << (self.bits - self.signed)) - 1


INTEGERS: Final = {
    DataType.INT8: IntegerWidth(8, signed=True),
    DataType.INT16: IntegerWidth(16, signed=True),
    DataType.INT32: IntegerWidth(32, signed=True),
    DataType.INT64: IntegerWidth(64, signed=True),
    DataType.UINT8: IntegerWidth(8, signed=False),
    DataType.UINT16: IntegerWidth(16, signed=False),
    DataType.UINT32: IntegerWidth(32, signed=False),
    DataType.UINT64: IntegerWidth(64, signed=False),
    DataType.DATETIME: IntegerWidth(64, signed=False),
}

TEXTS: Final = frozenset({DataType.STRING, DataType.TEXT, DataType.UUID})
BLOBS: Final = frozenset({DataType.BYTES, DataType.FILE})
NUMERIC: Final = frozenset(INTEGERS) - {DataType.DATETIME} | {DataType.FLOAT, DataType.DOUBLE, DataType.BOOLEAN}

# The struct code of one element; booleans and strings have packings of their own.
ARRAY_ELEMENTS: Final = {
    DataType.INT8_ARRAY: "b",
    DataType.INT16_ARRAY: "h",
    DataType.INT32_ARRAY: "i",
    DataType.INT64_ARRAY: "q",
    DataType.UINT8_ARRAY: "B",
    DataType.UINT16_ARRAY: "H",
    DataType.UINT32_ARRAY: "I",
    DataType.UINT64_ARRAY: "Q",
    DataType.FLOAT_ARRAY: "f",
    DataType.DOUBLE_ARRAY: "d",
    DataType.DATETIME_ARRAY: "Q",
}
ARRAYS: Final = frozenset(ARRAY_ELEMENTS) | {DataType.BOOLEAN_ARRAY, DataType.STRING_ARRAY}

# int_value holds the types up to 32 bits, long_value those of 64.
WIRE_FIELDS: Final = {
    **{t: "int_value" if width.bits <= 32 else "long_value" for t, width in INTEGERS.items()},  # noqa: PLR2004 - bits
    DataType.FLOAT: "float_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    **dict.fromkeys(TEXTS, "string_value"),
    **dict.fromkeys(BLOBS | ARRAYS, "bytes_value"),
}


def wrap(value: int, datatype: DataType) -> int:
    """The unsigned number that carries an integer on the wire; raises CodecError when it is out of range."""
    width = INTEGERS[datatype]
    if not width.low <= value <= width.high:
        raise CodecError(f"{datatype.name} {value}: allowed are {width.low} to {width.high}")
    return value & ((1 << max(width.bits, 32)) - 1)


def unwrap(wire: int, datatype: DataType) -> int:
    """The integer that an unsigned wire number stands for.

    Both spellings of a negative Int8 or Int16 are read: wrapped to 32 bits, as the specification has
    it, and wrapped to the type's own width, as some encoders do. Raises CodecError for any other number.
    """
    width = INTEGERS[datatype]
    for bits in {width.bits, max(width.bits, 32)}:
        value = wire - (1 << bits) if width.signed and wire >> (bits - 1) == 1 else wire
        if width.low <= value <= width.high:
            return value
    raise CodecError(f"{datatype.name} carried as {wire}: allowed are {width.low} to {width.high}, wrapped")


def pack_array(values: Sequence[Scalar], datatype: DataType) -> bytes:
    """An array as Sparkplug packs it; raises CodecError for an element that the type cannot hold."""
    try:
        match datatype:
            case DataType.BOOLEAN_ARRAY:
                return _pack_booleans([bool(value) for value in values])
            case DataType.STRING_ARRAY:
                return b"".join(_terminated(value) for value in values)
            case _:
                return struct.pack(f"<{len(values)}{ARRAY_ELEMENTS[datatype]}", *values)
    except (struct.error, OverflowError, UnicodeEncodeError) as exc:
        raise CodecError(f"{datatype.name}: {exc}") from exc


def unpack_array(packed: bytes, datatype: DataType) -> Array:
    """The array in packed bytes; raises CodecError when the length does not fit the type."""
    try:
        match datatype:
            case DataType.BOOLEAN_ARRAY:
                return _unpack_booleans(packed)
            case DataType.STRING_ARRAY:
                return _unpack_strings(packed)
            case _:
                code = ARRAY_ELEMENTS[datatype]
                count, rest = divmod(len(packed), struct.calcsize(f"<{code}"))
                if rest:
                    raise CodecError(f"{datatype.name}: {len(packed)} bytes are not a whole number of elements")
                return struct.unpack(f"<{count}{code}", packed)
    except UnicodeDecodeError as exc:
        raise CodecError(f"{datatype.name}: {exc}") from exc


def _pack_booleans(values: list[bool]) -> bytes:
    bits = bytearray(math.ceil(len(values) / 8))
    for i, value in enumerate(values):
        bits[i // 8] |= value << (7 - i % 8)
    return struct.pack("<I", len(values)) + bits


def _unpack_booleans(packed: bytes) -> tuple[bool, ...]:
    count = int.from_bytes(packed[:4], "little")
    bits = packed[4:]
    if len(packed) < 4 or len(bits) != math.ceil(count / 8):  # noqa: PLR2004 - the count is a uint32
        raise CodecError(f"BOOLEAN_ARRAY: {len(packed)} bytes do not hold the {count} bits announced")
    return tuple(bool(bits[i // 8] >> (7 - i % 8) & 1) for i in range(count))


def _terminated(value: Scalar) -> bytes:
    if not isinstance(value, str) or "\0" in value:
        raise CodecError(f"STRING_ARRAY: {value!r} is not a string without NUL")
    return value.encode() + b"\0"


def _unpack_strings(packed: bytes) -> tuple[str, ...]:
    if packed and not packed.endswith(b"\0"):
        raise CodecError("STRING_ARRAY: the last string has no terminating NUL")
    return tuple(part.decode() for part in packed.split(b"\0")[:-1])
