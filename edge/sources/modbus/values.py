"""How what stands in registers becomes a value. No I/O.

A point's *field* is what `struct` makes of its bytes in their natural order, its *raw* number what these bits or digits
mean, its *value* what is measured. A converter makes the value of a field or raises ValueFault; the words of a fault
stay the same as long as the fault does, because a fault is told of when its words change.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from edge.sources.modbus.orders import places, reordered, text_places
from edge.sources.modbus.points import NUMBERS, ValueFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contract.datatypes import Value
    from edge.sources.modbus.points import PointConfig

    Converter: TypeAlias = Callable[[Any], Value]
    RawConverter: TypeAlias = Callable[[int], int]
    # With the int16 that stands at `exponent_at` beside the field.
    ExponentConverter: TypeAlias = Callable[[Any, int], Value]

_GREATEST: Final = 1.7976931348623157e308  # of a float64: what is neither above it nor below its negative is finite
# SunSpec: a scale factor is -10 to 10. Its "not implemented" (0x8000) is none.
_EXPONENTS: Final = range(-10, 11)
_NOT_AVAILABLE: Final = "holds what stands for: not available"


def decode_registers(point: PointConfig, registers: Sequence[int], exponent: int = 0) -> Value:
    """The value of a point from exactly its own registers; raises ValueFault when they hold none.

    `exponent` is what stands at its `exponent_at`, if it has one.
    """
    raw = reordered(struct.pack(f">{len(registers)}H", *registers), byte_places(point))
    (field,) = struct.unpack(">" + field_code(point), raw)
    if point.exponent_at is not None:
        return exponent_converter(point)(field, exponent)
    convert = converter(point)
    value: Value = field if convert is None else convert(field)
    return value


def field_code(point: PointConfig) -> str:
    """The struct code of a point's field."""
    if point.datatype == "string":
        return f"{2 * point.size}s"
    return "H" if point.datatype == "bool" else NUMBERS[point.datatype][0]


def byte_places(point: PointConfig) -> tuple[int, ...]:
    """Where the bytes of a point's field stand among those of its registers."""
    if point.datatype == "string":
        return text_places(point.size, point.byte_order)
    return places(point.size, point.byte_order, point.word_order)


def converter(point: PointConfig) -> Converter | None:
    """What makes the value of a point's field; None where the field is the value."""
    if point.datatype == "string":
        return _text
    if point.datatype == "bool":
        mask = 1 << (point.bit or 0)
        return lambda field: field & mask != 0
    first, second = _raw(point), _value(point, frozenset() if point.is_bcd else sentinels(point))
    if first is None or second is None:
        return first or second
    return lambda field: second(first(field))


def exponent_converter(point: PointConfig) -> ExponentConverter:
    """The converter of a point that has an `exponent_at`."""
    first, second = _raw(point), _value(point, frozenset()) or _same
    absent = frozenset[float]() if point.is_bcd else sentinels(point)

    def convert(field: Any, exponent: int) -> Value:  # noqa: ANN401 - a number, as struct unpacks it
        raw = field if first is None else first(field)
        if raw in absent:
            raise ValueFault(_NOT_AVAILABLE)
        if exponent not in _EXPONENTS:
            raise ValueFault(f"has the exponent {exponent}: -10 to 10 are allowed")
        # Divided, not multiplied by 0.1: 2301 becomes 230.1 and not 230.10000000000002.
        return second(raw * 10.0**exponent if exponent >= 0 else raw / 10.0**-exponent)

    return convert


def sentinels(point: PointConfig) -> frozenset[float]:
    """The raw numbers that mean "not available"; for BCD the fields, for they need not be of decimal digits."""
    if point.is_float:
        code = ">" + NUMBERS[point.datatype][0]
        return frozenset(struct.unpack(code, struct.pack(code, number))[0] for number in point.not_available)
    low, patterns = (0, 1 << 16 * point.size) if point.is_bcd else _integers(point)
    return frozenset((int(number) - low) % patterns + low for number in point.not_available)


def _integers(point: PointConfig) -> tuple[int, int]:
    """The least integer, and how many there are."""
    low, high = point.raw_range
    return int(low), int(high) - int(low) + 1


def _raw(point: PointConfig) -> RawConverter | None:
    """What makes the raw number of a field; None where it is the field."""
    if point.is_bcd:
        return partial(_from_bcd, sentinels(point))
    if point.bits is not None:
        first, last = point.bits
        mask = (1 << (last - first + 1)) - 1
        return lambda field: field >> first & mask
    return None


def _value(point: PointConfig, absent: frozenset[float]) -> Converter | None:
    """What makes the value of a raw number; None where it is the raw number."""
    if point.texts is not None:
        return _meaning(point.texts, absent)
    low = -_GREATEST if point.min is None else point.min
    high = _GREATEST if point.max is None else point.max
    is_bounded = (low, high) != (-_GREATEST, _GREATEST)
    if point.scale is not None or point.offset is not None:
        scale = 1.0 if point.scale is None else point.scale
        return _scaled(point, scale, point.offset or 0.0, absent, (low, high))
    return _checked(point, absent, (low, high)) if is_bounded or point.is_float or absent else None


# The two below run for most points of every poll: each is one closure, and a comparison that NaN fails is the whole
# check for NaN, infinity and the plausible range.


def _scaled(
    point: PointConfig, scale: float, offset: float, absent: frozenset[float], plausible: tuple[float, float]
) -> Converter:
    low, high = plausible

    def convert(raw: float) -> float:
        if raw in absent:
            raise ValueFault(_NOT_AVAILABLE)
        value = raw * scale + offset
        if low <= value <= high:
            return value
        raise _implausible(point, value)

    return convert


def _checked(point: PointConfig, absent: frozenset[float], plausible: tuple[float, float]) -> Converter:
    low, high = plausible

    def convert(raw: float) -> float:
        if low <= raw <= high and raw not in absent:
            return raw
        raise ValueFault(_NOT_AVAILABLE) if raw in absent else _implausible(point, raw)

    return convert


def _implausible(point: PointConfig, value: float) -> ValueFault:
    unit = "" if point.unit is None else f" {point.unit}"
    if point.min is not None and -_GREATEST <= value < point.min:
        return ValueFault(f"is below the plausible {point.min:g}{unit}")
    if point.max is not None and _GREATEST >= value > point.max:
        return ValueFault(f"is above the plausible {point.max:g}{unit}")
    return ValueFault(f"holds {value}, which is not a number")


def _meaning(texts: dict[int, str], absent: frozenset[float]) -> Converter:
    def convert(raw: int) -> str:
        if raw in absent:
            raise ValueFault(_NOT_AVAILABLE)
        # A number without a text is told as it is: a new firmware's state is not less true for that.
        return texts.get(raw) or str(raw)

    return convert


def _from_bcd(absent: frozenset[float], field: int) -> int:
    if field in absent:
        raise ValueFault(_NOT_AVAILABLE)
    digits = f"{field:x}"
    if not digits.isdecimal():
        raise ValueFault("holds a digit above 9, which is not BCD")
    return int(digits)


def _text(field: bytes) -> str:
    # Cut, not only stripped: what stands behind a NUL is left over from a longer string.
    try:
        return field.split(b"\0", 1)[0].strip(b" ").decode()
    except UnicodeDecodeError as exc:
        raise ValueFault("holds what is not UTF-8") from exc


def _same(raw: float) -> float:
    return raw
