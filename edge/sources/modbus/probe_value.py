"""Where a value that a person reads off a display may stand among the registers of a device. No I/O."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edge.sources.modbus.orders import places, reordered
from edge.sources.modbus.points import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge.sources.modbus.orders import ByteOrder, WordOrder
    from edge.sources.modbus.points import Table

# Of datatypes that a value may be held in: what is seen most often comes first. BCD is looked for as well.
_DATATYPES: Final = (
    "float32", "uint16", "int16", "uint32", "int32", "float64", "uint64", "int64", "bcd16", "bcd32",
)  # fmt: skip
_SCALES: Final = (1.0, 0.1, 0.01, 0.001, 10.0)
_ORDERS: Final[dict[int, tuple[tuple[ByteOrder, WordOrder], ...]]] = {
    1: (("big", "big"), ("little", "big")),
    2: (("big", "big"), ("big", "little"), ("little", "big"), ("little", "little")),
    4: tuple(
        (byte_order, word_order)
        for byte_order in ("big", "little")
        for word_order in ("big", "little", "big-swapped", "little-swapped")
    ),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place and a way to read it that give about the value."""

    unit_id: int
    table: Table
    address: int
    datatype: str
    byte_order: ByteOrder
    word_order: WordOrder
    scale: float
    value: float

    @property
    def likelihood(self) -> tuple[float, ...]:
        """Sorts the likely first: usual orders before others, no scale before one, usual datatypes, what is near."""
        unusual = (self.byte_order != "big") + (self.word_order not in {"big", "little"})
        return unusual, _SCALES.index(self.scale) if self.datatype != "float32" else 0, _DATATYPES.index(self.datatype)

    def to_point(self, name: str) -> dict[str, Any]:
        """The point as the configuration has it."""
        point: dict[str, Any] = {"name": name, "table": self.table, "address": self.address, "datatype": self.datatype}
        orders = {"byte_order": self.byte_order, "word_order": self.word_order}
        point |= {key: order for key, order in orders.items() if order != "big"}
        return point | ({"scale": self.scale} if self.scale != 1 else {})


def find_value(
    unit_id: int, table: Table, content: Mapping[int, bytes], wanted: float, tolerance: float
) -> list[Candidate]:
    """Every way to read registers that gives the wanted value within `tolerance`, a share of it; likely ones first."""
    found = [
        Candidate(unit_id, table, address, datatype, byte_order, word_order, scale, value)
        for datatype in _DATATYPES
        for address, raw in _runs(content, struct.calcsize(NUMBERS[datatype][0]) // 2)
        for byte_order, word_order in _ORDERS[len(raw) // 2]
        for scale, value in _matches(
            datatype, reordered(raw, places(len(raw) // 2, byte_order, word_order)), wanted, tolerance
        )
    ]
    return sorted(_distinct(found), key=lambda one: (*one.likelihood, abs(one.value - wanted)))


def _runs(content: Mapping[int, bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Each address from which on so many registers are known, with their bytes."""
    for address in content:
        registers = [content.get(address + i) for i in range(size)]
        if None not in registers:
            yield address, b"".join(register for register in registers if register is not None)


def _matches(datatype: str, raw: bytes, wanted: float, tolerance: float) -> Iterator[tuple[float, float]]:
    """The scales with which bytes give the wanted value, and what they give."""
    number = _number(datatype, raw)
    if number is None or not math.isfinite(number):
        return
    for scale in (1.0,) if datatype.startswith("float") else _SCALES:
        value = number * scale
        if abs(value - wanted) <= tolerance * abs(wanted):
            yield scale, value


def _number(datatype: str, raw: bytes) -> float | None:
    if not datatype.startswith("bcd"):
        (number,) = struct.unpack(f">{NUMBERS[datatype][0]}", raw)
        return float(number)
    digits = raw.hex()
    return float(digits) if digits.isdecimal() else None


def _distinct(found: list[Candidate]) -> Iterator[Candidate]:
    """Without those that say the same in a less usual way: a small positive number is signed and unsigned alike."""
    seen = set()
    for one in found:
        signless = one.datatype.removeprefix("u")
        key = (one.table, one.address, signless, one.byte_order, one.word_order, one.scale)
        if key not in seen:
            seen.add(key)
            yield one
