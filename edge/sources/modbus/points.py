"""What one Modbus point is in the configuration, and how its registers become a value. No I/O.

A register is 16 bits. `byte_order` is the order of the two bytes in a register, `word_order` that of the
registers in a value: big and big is what the Modbus specification draws, big and little what many PLCs do.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, model_validator

from contract.config import Config
from contract.datatypes import DataType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.datatypes import Value

Table = Literal["coil", "discrete", "holding", "input"]
Order = Literal["big", "little"]
BIT_TABLES: Final = frozenset({"coil", "discrete"})
MAX_REGISTERS: Final = 125  # of one read: Modbus application protocol 1.1b3, 6.3
MAX_BITS: Final = 2000  # of one read: the same, 6.1
_ADDRESSES: Final = 65_536

# Name in the configuration -> struct code, Sparkplug type. All but bool and string.
_NUMBERS: Final = {
    "int16": ("h", DataType.INT16),
    "uint16": ("H", DataType.UINT16),
    "int32": ("i", DataType.INT32),
    "uint32": ("I", DataType.UINT32),
    "int64": ("q", DataType.INT64),
    "uint64": ("Q", DataType.UINT64),
    "float32": ("f", DataType.FLOAT),
    "float64": ("d", DataType.DOUBLE),
}


class ValueFault(ValueError):  # noqa: N818 - not a failure of ours: what the registers hold is no value
    """Registers that hold no value of their type; the message says what they hold."""


class PointConfig(Config):
    """One point of a device: where it is, what it is, and what it is called."""

    name: str = Field(min_length=1, max_length=200, description="metric name, unique in the source")
    table: Table = Field(description="coil and discrete hold bits, holding and input hold registers")
    address: int = Field(ge=0, lt=_ADDRESSES, description="of the first register or bit, counted from 0")
    datatype: Literal[
        "bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "string"
    ] = Field(description="what the registers hold")
    byte_order: Order = Field(default="big", description="of the two bytes in a register")
    word_order: Order = Field(default="big", description="of the registers in a value")
    length: int | None = Field(default=None, ge=1, le=MAX_REGISTERS, description="registers of a string")
    bit: int | None = Field(default=None, ge=0, le=15, description="of a register, for a bool; 0 is the lowest")
    scale: float | None = Field(default=None, allow_inf_nan=False, description="value = raw * scale + offset")
    offset: float | None = Field(default=None, allow_inf_nan=False, description="value = raw * scale + offset")
    unit: str | None = Field(default=None, description="engineering unit of the (scaled) value")
    description: str | None = Field(default=None, description="what is measured")

    @model_validator(mode="after")
    def _parts_fit(self) -> PointConfig:
        fault = _misfit(self)
        if fault is not None:
            raise ValueError(fault)
        return self

    @property
    def size(self) -> int:
        """How many registers, or bits of a bit table, it takes."""
        if self.datatype == "string":
            return self.length or 1
        return 1 if self.datatype == "bool" else struct.calcsize(_NUMBERS[self.datatype][0]) // 2

    @property
    def is_scaled(self) -> bool:
        """Whether the value is computed from what the registers hold."""
        return self.scale is not None or self.offset is not None

    @property
    def metric_type(self) -> DataType:
        """The Sparkplug type of its readings: whatever is scaled becomes a DOUBLE."""
        if self.datatype == "bool":
            return DataType.BOOLEAN
        if self.datatype == "string":
            return DataType.STRING
        return DataType.DOUBLE if self.is_scaled else _NUMBERS[self.datatype][1]


def decode_bit(bits: Sequence[bool]) -> bool:
    """The value of a point in a bit table."""
    return bool(bits[0])


def decode_registers(point: PointConfig, registers: Sequence[int]) -> Value:
    """The value of a point from exactly its own registers; raises ValueFault when they hold none."""
    raw = b"".join(struct.pack(">H" if point.byte_order == "big" else "<H", register) for register in registers)
    if point.datatype == "string":
        return _decode_string(raw)
    if point.datatype == "bool":
        return bool(int.from_bytes(raw, "big") >> (point.bit or 0) & 1)
    if point.word_order == "little":
        raw = b"".join(raw[i : i + 2] for i in range(len(raw) - 2, -1, -2))
    (number,) = struct.unpack(f">{_NUMBERS[point.datatype][0]}", raw)
    return _finite(number * _or(point.scale, 1.0) + _or(point.offset, 0.0) if point.is_scaled else number, number)


def _decode_string(raw: bytes) -> str:
    # Cut, not only stripped: what stands behind a NUL is left over from a longer string.
    text = raw.split(b"\0", 1)[0].strip(b" ")
    try:
        return text.decode()
    except UnicodeDecodeError as exc:
        raise ValueFault(f"holds {text[:20]!r}, which is not UTF-8") from exc


def _finite(value: float, raw: float) -> int | float:
    if not math.isfinite(value):
        raise ValueFault(f"holds {raw}, which is not a number")
    return value


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _misfit(point: PointConfig) -> str | None:
    is_bits, is_bool, is_string = point.table in BIT_TABLES, point.datatype == "bool", point.datatype == "string"
    checks = (
        (is_bits and not is_bool, f"a {point.table} holds bits: its datatype can only be bool"),
        (is_bits and point.bit is not None, f"a {point.table} is one bit: leave out `bit`"),
        (is_bool and not is_bits and point.bit is None, "a bool of a register needs `bit` (0 to 15)"),
        (not is_bool and point.bit is not None, "`bit` is for a bool"),
        (is_string and point.length is None, "a string needs `length` (registers)"),
        (not is_string and point.length is not None, "`length` is for a string"),
        (is_string and point.word_order == "little", "the registers of a string have no word_order"),
        ((is_bool or is_string) and point.is_scaled, f"a {point.datatype} has no scale or offset"),
    )
    for wrong, message in checks:
        if wrong:
            return message
    if point.address + point.size > _ADDRESSES:
        return f"it ends at address {point.address + point.size - 1}: the last one is {_ADDRESSES - 1}"
    return None
