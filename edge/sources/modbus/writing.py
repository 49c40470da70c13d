"""How a value becomes what is written to registers: the inverse of `values`, within what the configuration allows.

No I/O.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from edge.errors import SourceError
from edge.sources.modbus.orders import reordered
from edge.sources.modbus.values import byte_places, field_code, sentinels

if TYPE_CHECKING:
    from contract.datatypes import Value
    from edge.sources.modbus.points import PointConfig


class NotAllowed(SourceError):  # noqa: N818 - it is the value that is not allowed; nothing has failed
    """A value that must not be written to a point; the message says what may be."""


def encode_bit(point: PointConfig, value: Value) -> bool:
    """What is written to a coil; raises NotAllowed."""
    if point.write is None:
        raise _refusal(point, value, "nothing: it has no `write`")
    if not isinstance(value, bool):
        raise _refusal(point, value, "true and false")
    return value


def encode_registers(point: PointConfig, value: Value) -> tuple[int, ...]:
    """What is written to a point's registers; raises NotAllowed.

    A scaled value is written as the nearest that the registers can hold: what is read back says which.
    """
    if point.write is None:
        raise _refusal(point, value, "nothing: it has no `write`")
    if point.datatype == "string":
        field: int | float | bytes = _text_field(point, value)
    elif point.texts is not None:
        field = _field_of(point, _number_of_text(point, value))
    else:
        field = _number_field(point, value)
    raw = struct.pack(">" + field_code(point), field)
    return struct.unpack(f">{point.size}H", reordered(raw, byte_places(point)))


def _number_field(point: PointConfig, value: Value) -> int | float:
    assert point.write is not None
    low, high = point.write.min, point.write.max
    assert low is not None
    assert high is not None
    allowed = f"{low:g} to {high:g}{'' if point.unit is None else ' ' + point.unit}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _refusal(point, value, allowed)
    raw = _raw(point, value)
    if not point.is_float:
        if not point.is_scaled and raw != math.floor(raw):
            raise _refusal(point, value, f"whole numbers, {allowed}")
        # The nearest, but of those within: half a step beyond a limit is beyond it.
        least, greatest = sorted((_raw(point, low), _raw(point, high)))
        first, last = math.ceil(least - _rounding(least)), math.floor(greatest + _rounding(greatest))
        if first > last:
            raise _refusal(point, value, f"{allowed}, and no number of the registers is within")
        raw = min(max(round(raw), first), last)
    # The limits fit, but what is nearest to them may lie just outside.
    least, greatest = point.raw_range
    field = _field_of(point, min(max(raw, least), greatest))
    if field in sentinels(point):
        raise _refusal(point, value, f"{allowed}, but not what the device takes as not available")
    return field


def _raw(point: PointConfig, value: float) -> float:
    return value if not point.is_scaled else (value - (point.offset or 0.0)) / (point.scale or 1.0)


def _rounding(raw: float) -> float:
    """What arithmetic may have added: 0.3 / 0.1 is 2.9999999999999996 and means 3."""
    return 1e-9 * max(1.0, abs(raw))


def _field_of(point: PointConfig, raw: float) -> int | float:
    """What `struct` makes of a raw number in the registers."""
    if point.is_bcd:
        return int(str(raw), 16)
    code = ">" + field_code(point)
    field: int | float = struct.unpack(code, struct.pack(code, raw))[0]
    return field


def _number_of_text(point: PointConfig, value: Value) -> int:
    texts = point.texts or {}
    for number, text in texts.items():
        if text == value:
            return number
    raise _refusal(point, value, ", ".join(texts.values()))


def _text_field(point: PointConfig, value: Value) -> bytes:
    room = 2 * point.size
    if not isinstance(value, str) or len(value.encode()) > room or "\0" in value:
        raise _refusal(point, value, f"text of at most {room} bytes, without NUL")
    return value.encode()


def _refusal(point: PointConfig, value: Value, allowed: str) -> NotAllowed:
    shown = repr(value) if len(repr(value)) <= 40 else f"{value!r:.37}..."  # noqa: PLR2004 - columns
    return NotAllowed(f"{point.name}: found {shown}, allowed: {allowed}")
