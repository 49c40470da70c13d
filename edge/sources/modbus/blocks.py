"""Which points are read together: one request per run of neighbouring addresses. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from edge.sources.modbus.points import BIT_TABLES, MAX_BITS, decode_bit, decode_registers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from contract.datatypes import Value
    from edge.sources.modbus.points import PointConfig, Table


@dataclass(frozen=True, slots=True)
class Block:
    """One read request and the points that it answers, in order of address."""

    unit_id: int
    table: Table
    points: tuple[PointConfig, ...]

    @property
    def address(self) -> int:
        """The first address read."""
        return self.points[0].address

    @property
    def count(self) -> int:
        """How many registers or bits are read."""
        return max(point.address + point.size for point in self.points) - self.address

    @property
    def where(self) -> str:
        """The block within its unit, for a person."""
        span = f"{self.address}" if self.count == 1 else f"{self.address}-{self.address + self.count - 1}"
        more = f" and {len(self.points) - 1} more" if len(self.points) > 1 else ""
        return f"{self.table} {span} ({self.points[0].name}{more})"

    def value_of(self, point: PointConfig, answer: Sequence[int] | Sequence[bool]) -> Value:
        """The value of one of its points in an answer of `count` registers or bits; raises ValueFault."""
        start = point.address - self.address
        own = answer[start : start + point.size]
        return decode_bit([bool(bit) for bit in own]) if self.table in BIT_TABLES else decode_registers(point, own)

    def halves(self) -> tuple[Block, Block]:
        """The block as two, for when one of its addresses spoils it; it must have two points or more."""
        middle = len(self.points) // 2
        return (
            Block(self.unit_id, self.table, self.points[:middle]),
            Block(self.unit_id, self.table, self.points[middle:]),
        )


def plan_blocks(unit_id: int, points: Iterable[PointConfig], *, max_gap: int, max_registers: int) -> list[Block]:
    """The fewest blocks that hold every point of a unit, none of them bridging more than `max_gap` unused addresses."""

    def order(point: PointConfig) -> tuple[str, int]:
        return point.table, point.address

    blocks: list[Block] = []
    for _, in_table in groupby(sorted(points, key=order), key=lambda point: point.table):
        blocks += _coalesce(unit_id, list(in_table), max_gap, max_registers)
    return blocks


def _coalesce(unit_id: int, points: list[PointConfig], max_gap: int, max_registers: int) -> Iterable[Block]:
    table = points[0].table
    limit = MAX_BITS if table in BIT_TABLES else max_registers
    run = [points[0]]
    end = points[0].address + points[0].size
    for point in points[1:]:
        point_end = max(end, point.address + point.size)
        if point.address - end > max_gap or point_end - run[0].address > limit:
            yield Block(unit_id, table, tuple(run))
            run, point_end = [], point.address + point.size
        run.append(point)
        end = point_end
    yield Block(unit_id, table, tuple(run))
