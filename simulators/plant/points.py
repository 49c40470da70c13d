"""Points of a Modbus device and how each travels in its registers.

A point's *quantity* is what the physics has, its *raw* value what the registers hold, its *value* what a
client computes from them: `raw * scale + offset` where it is scaled, else the raw value itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulators.ledger import Value


class Table(StrEnum):
    """The four tables of a Modbus device."""

    COIL = "coil"
    DISCRETE = "discrete"
    HOLDING = "holding"
    INPUT = "input"

    @property
    def of_bits(self) -> bool:
        """Whether an address of the table holds a bit, not a register."""
        return self in {Table.COIL, Table.DISCRETE}


class Kind(StrEnum):
    """How the registers of a point are read."""

    BOOL = "bool"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"


class Order(StrEnum):
    """Which end comes first."""

    BIG = "big"
    LITTLE = "little"


_CODES: Final = {
    Kind.INT16: "h",
    Kind.UINT16: "H",
    Kind.INT32: "i",
    Kind.UINT32: "I",
    Kind.INT64: "q",
    Kind.UINT64: "Q",
    Kind.FLOAT32: "f",
    Kind.FLOAT64: "d",
}
_FLOATS: Final = frozenset({Kind.FLOAT32, Kind.FLOAT64})


@dataclass(frozen=True, slots=True)
class PlantPoint:
    """One measured thing and where it stands; `byte_order` is that within a register, `length` in registers."""

    name: str
    table: Table
    address: int
    kind: Kind
    description: str
    unit: str | None = None
    byte_order: Order = Order.BIG
    word_order: Order = Order.BIG
    length: int | None = None
    bit: int | None = None
    scale: float | None = None
    offset: float | None = None

    @property
    def width(self) -> int:
        """How many addresses the point takes."""
        if self.kind is Kind.STRING:
            return self.length or 1
        return 1 if self.kind is Kind.BOOL else struct.calcsize(f">{_CODES[self.kind]}") // 2

    @property
    def end(self) -> int:
        """The first address after the point."""
        return self.address + self.width

    @property
    def is_scaled(self) -> bool:
        """Whether clients multiply and add."""
        return self.scale is not None or self.offset is not None

    def to_config(self) -> dict[str, Any]:
        """The point as an edge agent's configuration has it, without what is the default."""
        config: dict[str, Any] = {"name": self.name, "table": str(self.table), "address": self.address}
        config["datatype"] = str(self.kind)
        orders = {"byte_order": self.byte_order, "word_order": self.word_order}
        config |= {key: str(order) for key, order in orders.items() if order is not Order.BIG}
        optional = ("length", "bit", "scale", "offset", "unit")
        config |= {key: getattr(self, key) for key in optional if getattr(self, key) is not None}
        return config | {"description": self.description}


def to_raw(point: PlantPoint, quantity: Value) -> Value:
    """The nearest raw value that the point can hold; a quantity out of range is held at the range's end."""
    if point.kind is Kind.BOOL:
        return bool(quantity)
    if point.kind is Kind.STRING:
        return str(quantity)[: 2 * point.width]
    unscaled = (float(quantity) - (point.offset or 0.0)) / (1.0 if point.scale is None else point.scale)
    if point.kind in _FLOATS:
        return _as_float(point.kind, unscaled)
    low, high = _bounds(point.kind)
    exact = int(quantity) if isinstance(quantity, int) and not point.is_scaled else round(unscaled)
    return min(max(exact, low), high)


def to_value(point: PlantPoint, raw: Value) -> Value:
    """What a client makes of a raw value."""
    if not point.is_scaled or isinstance(raw, str):
        return raw
    return raw * (1.0 if point.scale is None else point.scale) + (point.offset or 0.0)


def to_registers(point: PlantPoint, raw: Value) -> tuple[int, ...]:
    """The registers (for a coil or discrete input: the bit) that hold a raw value."""
    if point.kind is Kind.BOOL:
        return (int(bool(raw)) << (point.bit or 0),)
    if point.kind is Kind.STRING:
        packed = str(raw).encode("ascii").ljust(2 * point.width, b"\0")
        return _words(packed, point.byte_order)
    words = _words(struct.pack(f">{_CODES[point.kind]}", raw), point.byte_order)
    return words if point.word_order is Order.BIG else words[::-1]


def from_registers(point: PlantPoint, registers: Sequence[int]) -> Value:
    """The raw value in the registers: the inverse of `to_registers`."""
    if point.kind is Kind.BOOL:
        return bool(registers[0] >> (point.bit or 0) & 1)
    if point.kind is Kind.STRING:
        packed = b"".join(word.to_bytes(2, point.byte_order.value) for word in registers)
        return packed.rstrip(b"\0").decode("ascii")
    ordered = registers if point.word_order is Order.BIG else registers[::-1]
    packed = b"".join(word.to_bytes(2, point.byte_order.value) for word in ordered)
    raw: int | float = struct.unpack(f">{_CODES[point.kind]}", packed)[0]
    return raw


def _words(packed: bytes, byte_order: Order) -> tuple[int, ...]:
    return tuple(int.from_bytes(packed[i : i + 2], byte_order.value) for i in range(0, len(packed), 2))


def _bounds(kind: Kind) -> tuple[int, int]:
    bits = 8 * struct.calcsize(f">{_CODES[kind]}")
    signed = _CODES[kind].islower()
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _as_float(kind: Kind, number: float) -> float:
    rounded: float = struct.unpack(f">{_CODES[kind]}", struct.pack(f">{_CODES[kind]}", number))[0]
    return rounded
