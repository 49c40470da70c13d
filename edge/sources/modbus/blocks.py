"""Which points are read together: the fewest requests that read all of them and no forbidden address. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from contract.config import Config
from edge.sources.modbus.decoding import Decoder
from edge.sources.modbus.points import (
    ADDRESSES,
    BIT_TABLES,
    MAX_BITS,
    Table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edge.reading import Reading
    from edge.sources.modbus.points import PointConfig


class Forbidden(Config):
    """Addresses that are never read, not even between others."""

    table: Table = Field(description="coil, discrete, holding or input")
    first: int = Field(ge=0, lt=ADDRESSES, description="first address, counted from 0")
    last: int = Field(ge=0, lt=ADDRESSES, description="last address")

    @model_validator(mode="after")
    def _has_addresses(self) -> Forbidden:
        if self.first > self.last:
            raise ValueError(f"first {self.first} is above last {self.last}")
        return self


@dataclass(frozen=True)
class Block:
    """One read request and the points that it answers, in order of address."""

    unit_id: int
    table: Table
    points: tuple[PointConfig, ...]

    @cached_property
    def address(self) -> int:
        """The first address read."""
        return min(point.span.start for point in self.points)

    @cached_property
    def count(self) -> int:
        """How many registers or bits are read."""
        return max(point.span.stop for point in self.points) - self.address

    @cached_property
    def where(self) -> str:
        """The block within its unit, for a person."""
        span = f"{self.address}" if self.count == 1 else f"{self.address}-{self.address + self.count - 1}"
        more = f" and {len(self.points) - 1} more" if len(self.points) > 1 else ""
        return f"{self.table} {span} ({self.points[0].name}{more})"

    @cached_property
    def decoder(self) -> Decoder:
        """What makes readings of the answer; worked out when it is first asked for."""
        return Decoder(self.points, self.address, self.count)

    def readings(self, data: bytes, at_ms: int) -> tuple[list[Reading], list[tuple[PointConfig, str]]]:
        """A reading for each of its points from an answer, and for those without value what is the matter.

        `data` is what follows the byte count in the answer's PDU: exactly `decoder.size_bytes`.
        """
        return self.decoder.readings(data, at_ms)

    @property
    def is_one_place(self) -> bool:
        """Whether all of its points stand at the same addresses, as the bits of a status word do."""
        return self.points[0].span == self.points[-1].span

    def halves(self) -> tuple[Block, Block]:
        """The block as two, for when one of its addresses spoils it; it must not be one place."""
        points = self.points
        cuts = (i for i in range(1, len(points)) if points[i - 1].span != points[i].span)
        middle = min(cuts, key=lambda cut: abs(cut - len(points) / 2))
        return self._of(points[:middle]), self._of(points[middle:])

    def around(self, point: PointConfig) -> tuple[Block, ...]:
        """A point with those that share addresses with it, then what stands before it and behind it, if anything."""
        points = self.points
        ends = [*accumulate((point.span.stop for point in points), max)]
        cuts = [0, *(i for i in range(1, len(points)) if ends[i - 1] <= points[i].span.start), len(points)]
        at = points.index(point)
        first, last = max(cut for cut in cuts if cut <= at), min(cut for cut in cuts if cut > at)
        return tuple(self._of(part) for part in (points[first:last], points[:first], points[last:]) if part)

    def _of(self, points: tuple[PointConfig, ...]) -> Block:
        return Block(self.unit_id, self.table, points)


def places(unit_id: int, points: Iterable[PointConfig]) -> list[Block]:
    """The smallest blocks of points: those that stand at the same addresses are told apart by no request."""
    groups = groupby(sorted(points, key=_order), key=_order)
    return [Block(unit_id, order[0], tuple(group)) for order, group in groups]


def _order(point: PointConfig) -> tuple[Table, int, int]:
    return point.table, point.span.start, point.span.stop


def plan_blocks(
    unit_id: int,
    points: Iterable[PointConfig],
    *,
    max_gap: int,
    max_registers: int,
    max_bits: int = MAX_BITS,
    forbidden: Sequence[Forbidden] = (),
) -> list[Block]:
    """The fewest blocks that hold every point of a unit, none of them bridging more than `max_gap` unused addresses.

    Raises ValueError for a point that is forbidden or that no request may be long enough for.
    """
    blocks: list[Block] = []
    for table, in_table in groupby(sorted(points, key=_order), key=lambda point: point.table):
        limit = max_bits if table in BIT_TABLES else max_registers
        walls = sorted((wall.first, wall.last) for wall in forbidden if wall.table == table)
        wanted = list(in_table)
        for point in wanted:
            _check_readable(point, limit, walls)
        for stretch in _stretches(wanted, max_gap, walls):
            blocks += [Block(unit_id, table, tuple(group)) for group in _windows(stretch, limit)]
    return blocks


def _check_readable(point: PointConfig, limit: int, walls: Sequence[tuple[int, int]]) -> None:
    span = point.span
    takes = f"point {point.name} takes {point.table} {span.start} to {span.stop - 1}"
    if len(span) > limit:
        raise ValueError(f"{takes}: these are {len(span)}, and one request may read {limit}")
    for first, last in walls:
        if first < span.stop and span.start <= last:
            raise ValueError(f"{takes}, and {first} to {last} are forbidden")


def _stretches(
    points: Sequence[PointConfig], max_gap: int, walls: Sequence[tuple[int, int]]
) -> Iterable[list[PointConfig]]:
    """Points, in order of address, between which neither a wall nor a gap stands that is too wide."""
    stretch, end = [points[0]], points[0].span.stop
    for point in points[1:]:
        start = point.span.start
        if start - end > max_gap or any(first < start and end <= last for first, last in walls):
            yield stretch
            stretch = []
        stretch.append(point)
        end = max(end, point.span.stop)
    yield stretch


def _windows(stretch: list[PointConfig], limit: int) -> list[list[PointConfig]]:
    """The fewest groups of which each spans at most `limit` addresses.

    The leftmost point needs a group that begins with it, and no such group can hold more than all that end within the
    limit: so taking these leaves the least to the others. What a later group spans anyhow goes to that one; a point
    that reached out of the first group and covered a gap between two others of it has then taken the second along.
    """
    groups: list[list[PointConfig]] = []
    while stretch:
        end = stretch[0].span.start + limit
        groups.append([point for point in stretch if point.span.stop <= end])
        stretch = [point for point in stretch if point.span.stop > end]
    for i in range(len(groups) - 2, -1, -1):
        for later in groups[:i:-1]:
            inside = range(later[0].span.start, max(point.span.stop for point in later) + 1)
            later += [point for point in groups[i] if _is_inside(point, inside)]
            groups[i] = [point for point in groups[i] if not _is_inside(point, inside)]
    return [sorted(group, key=lambda point: (point.span.start, point.span.stop)) for group in groups]


def _is_inside(point: PointConfig, ends: range) -> bool:
    return point.span.start in ends and point.span.stop in ends
