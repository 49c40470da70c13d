"""What the registers of every unit hold at one moment, and which points a block of them covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulators.plant.points import PlantPoint, Table, to_raw, to_registers, to_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulators.ledger import Value

# Registers between two points that a device answers with zero; a wider hole is none of its addresses.
_RESERVED: Final = 8


@dataclass(frozen=True, slots=True)
class Block:
    """A run of addresses in one table of one unit."""

    unit_id: int
    table: Table
    address: int
    count: int

    @property
    def end(self) -> int:
        """The first address after the block."""
        return self.address + self.count

    def as_json(self) -> dict[str, int | str]:
        """The block as a ledger has it."""
        return {"unit_id": self.unit_id, "table": str(self.table), "address": self.address}

    def covers(self, point: PlantPoint) -> bool:
        """Whether the whole of a point lies in it."""
        return point.table is self.table and self.address <= point.address and point.end <= self.end

    def touches(self, point: PlantPoint) -> bool:
        """Whether any of a point lies in it."""
        return point.table is self.table and self.address < point.end and point.address < self.end


class Memory:
    """The registers of all units: an image of the points' quantities, as Modbus clients see it."""

    def __init__(self, units: Mapping[int, Sequence[PlantPoint]], quantities: Mapping[str, Value]) -> None:
        self._units = units
        self._words: dict[tuple[int, Table, int], int] = {}
        self.values: dict[str, Value] = {}
        for unit_id, points in units.items():
            for point in points:
                self._hold(unit_id, point, quantities[point.name])

    def _hold(self, unit_id: int, point: PlantPoint, quantity: Value) -> None:
        raw = to_raw(point, quantity)
        self.values[point.name] = to_value(point, raw)
        for address, word in enumerate(to_registers(point, raw), point.address):
            key = unit_id, point.table, address
            # Or: bits of a word are points of their own, and the word may be one beside them.
            self._words[key] = self._words.get(key, 0) | word

    def read(self, block: Block) -> list[int]:
        """The registers (or bits) of a block that `is_legal`."""
        return [
            self._words.get((block.unit_id, block.table, address), 0) for address in range(block.address, block.end)
        ]

    def values_in(self, block: Block) -> dict[str, Value]:
        """The value of every point that lies wholly in a block."""
        return {point.name: self.values[point.name] for point in self._units[block.unit_id] if block.covers(point)}


def is_legal(points: Sequence[PlantPoint], block: Block) -> bool:
    """Whether every address of a block is one of the device's."""
    end: int | None = None
    for point in sorted((p for p in points if p.table is block.table), key=lambda p: p.address):
        if end is None or point.address - end > _RESERVED:
            start = point.address
        end = max(end or 0, point.end)
        if start <= block.address and block.end <= end:
            return True
    return False
