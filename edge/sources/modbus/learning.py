"""What one unit is asked, and what experience has taught about it. No I/O; times are seconds of a monotonic clock.

A request that is refused is asked in halves, down to the point that spoils it. Where both halves are answered the
addresses between them are to blame, if there are any and they are refused too; else the request was larger than the
device bears; or, if larger ones were answered, it crossed a border between two parts of the device's map. Whatever is
learned is doubted again later: devices are updated, and a fault may have been none of the addresses'.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from edge.sources.modbus.blocks import Block, Forbidden, plan_blocks
from edge.sources.modbus.framing import Request, read_request
from edge.sources.modbus.points import BIT_TABLES, MAX_BITS, MAX_REGISTERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from edge.sources.modbus.points import PointConfig, Table

_FIRST_RECHECK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What is read from a unit and within which limits."""

    unit_id: int
    points: tuple[PointConfig, ...]
    max_gap: int = 4
    max_registers: int = MAX_REGISTERS
    max_bits: int = MAX_BITS
    forbidden: tuple[Forbidden, ...] = ()

    def blocks(self) -> list[Block]:
        """The requests of a poll as long as nothing has been learned; raises ValueError for what cannot be read."""
        return plan_blocks(
            self.unit_id,
            self.points,
            max_gap=self.max_gap,
            max_registers=self.max_registers,
            max_bits=self.max_bits,
            forbidden=self.forbidden,
        )


@dataclass(eq=False, slots=True)
class Piece:
    """A block that is to be asked, and the larger one of which it is a half."""

    block: Block
    half_of: Split | None = None
    silences: int = 0  # in a row
    answered: bool = False
    request: Request = field(init=False)
    of_bits: bool = field(init=False)

    def __post_init__(self) -> None:
        block = self.block
        self.of_bits = block.table in BIT_TABLES
        self.request = read_request(block.unit_id, block.table, block.address, block.count)


@dataclass(eq=False, slots=True)
class Split:
    """A block that was not answered as a whole; `suspect` if that may be the fault of its addresses or its size."""

    whole: Block
    suspect: bool = True
    halves: tuple[Piece, ...] = ()

    @property
    def gap(self) -> Forbidden | None:
        """The addresses between its halves, if there are any."""
        first, second = (half.block for half in self.halves)
        end, start = first.address + first.count, second.address
        return Forbidden(table=self.whole.table, first=end, last=start - 1) if end < start else None


@dataclass(slots=True)
class _Doubt:
    """When something that was learned is looked at again."""

    reason: str
    since: float
    pause_s: float
    due: float


@dataclass(slots=True)
class _Size:
    """How many addresses a request may read: `answered` were, `refused` were not; those between are tried."""

    answered: int
    refused: int
    due: float

    @property
    def limit(self) -> int:
        return max(self.answered, (self.answered + self.refused) // 2)


@dataclass(slots=True)
class Experience:
    """A unit's plan and all that was learned about it; `recheck_s` is how often what was learned is doubted."""

    plan: UnitPlan
    recheck_s: float
    pieces: list[Piece] = field(default_factory=list)
    bad_points: dict[str, _Doubt] = field(default_factory=dict)
    bad_gaps: dict[Forbidden, _Doubt] = field(default_factory=dict)
    _borders: dict[tuple[Table, int], float] = field(
        default_factory=dict
    )  # first address behind each -> when it is due
    _sizes: dict[bool, _Size] = field(default_factory=dict)  # of registers (False) and of bits (True)
    _oversized: dict[bool, tuple[int, tuple[Table, int]]] = field(default_factory=dict)  # size and border of the first
    _largest: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})  # answered ever
    _outdated: bool = False  # more has been learned since the plan was made

    def __post_init__(self) -> None:
        self.replan()

    @property
    def spoiled(self) -> list[PointConfig]:
        """The points that are not asked for because they were refused."""
        return [point for point in self.plan.points if point.name in self.bad_points] if self.bad_points else []

    @property
    def bad_addresses(self) -> tuple[str, ...]:
        """What is not read because it was refused, for a person."""
        spans = [(p.table, p.span.start, p.span.stop - 1) for p in self.spoiled]
        spans += [(gap.table, gap.first, gap.last) for gap in self.bad_gaps]
        return tuple(
            f"{table} {first}" if first == last else f"{table} {first}-{last}" for table, first, last in sorted(spans)
        )

    # Planning

    def replan(self) -> None:
        """The fewest requests around everything that is known to be bad."""
        good = [point for point in self.plan.points if point.name not in self.bad_points]
        registers, bits = (self._limit(good, of_bits=of_bits) for of_bits in (False, True))
        forbidden = (*self.plan.forbidden, *self.bad_gaps, *self._spoiled(good))
        self.pieces = [
            Piece(block)
            for part in self._parts(good)
            for block in replace(
                self.plan, points=part, max_registers=registers, max_bits=bits, forbidden=forbidden
            ).blocks()
        ]
        self._outdated = False

    def _parts(self, points: Sequence[PointConfig]) -> Iterable[tuple[PointConfig, ...]]:
        """Points that may be read together, as far as borders say."""
        parts: dict[tuple[str, int], list[PointConfig]] = {}
        for point in points:
            before = sum(table == point.table and start <= point.span.start for table, start in self._borders)
            parts.setdefault((point.table, before), []).append(point)
        return map(tuple, parts.values())

    def _limit(self, points: Iterable[PointConfig], *, of_bits: bool) -> int:
        configured = self.plan.max_bits if of_bits else self.plan.max_registers
        learned = self._sizes.get(of_bits)
        if learned is None:
            return configured
        largest = max((len(p.span) for p in points if (p.table in BIT_TABLES) is of_bits), default=1)
        return min(configured, max(learned.limit, largest))

    def _spoiled(self, good: Sequence[PointConfig]) -> Iterator[Forbidden]:
        """The addresses of the bad points that are no good point's too."""
        used = {(point.table, address) for point in good for address in point.span}
        for point in self.spoiled:
            for address in point.span:
                if (point.table, address) not in used:
                    yield Forbidden(table=point.table, first=address, last=address)

    # Learning

    def split(self, piece: Piece) -> Sequence[Piece]:
        """The halves of a block of two points or more, to be asked in its place."""
        return self._part(piece, Split(piece.block), piece.block.halves())

    def split_off(self, point: PointConfig) -> Piece:
        """A point has been read by itself: its own piece; the others of its block are still to be asked."""
        piece = next(piece for piece in self.pieces if point in piece.block.points)
        points, unit_id, table = piece.block.points, piece.block.unit_id, piece.block.table
        if len(points) > 1:
            at = points.index(point)
            # Around it, not across: what is read twice in one poll would be two values at one time.
            parts = [part for part in ((point,), points[:at], points[at + 1 :]) if part]
            split = Split(piece.block, suspect=False)
            piece = self._part(piece, split, [Block(unit_id, table, part) for part in parts])[0]
        piece.answered, piece.silences = True, 0
        return piece

    def _part(self, piece: Piece, split: Split, blocks: Iterable[Block]) -> Sequence[Piece]:
        split.halves = tuple(Piece(block, half_of=split, silences=piece.silences) for block in blocks)
        at = self.pieces.index(piece)
        self.pieces[at : at + 1] = split.halves
        return split.halves

    def answered(self, piece: Piece) -> Split | None:
        """A block was answered; the split of which neither half is to blame, once both are."""
        piece.answered, piece.silences = True, 0
        count, of_bits = piece.block.count, piece.of_bits
        if count > self._largest[of_bits]:
            self._answered_more(count, of_bits=of_bits)
        split = piece.half_of
        if split is None or not split.suspect or not all(half.answered for half in split.halves):
            return None
        return split

    def _answered_more(self, count: int, *, of_bits: bool) -> None:
        self._largest[of_bits] = count
        if of_bits in self._oversized and self._oversized[of_bits][0] <= count:
            del self._oversized[of_bits]  # it was a border
        size = self._sizes.get(of_bits)
        if size is not None and size.answered < count < size.refused:
            size.answered = count
            self._outdated = True

    def settle(self) -> None:
        """Plan anew where that can be better: every half was asked, and what spoils its whole is known."""
        halves = [piece for piece in self.pieces if piece.half_of is not None]
        if (halves or self._outdated) and all(piece.answered for piece in halves):
            self.replan()

    def blame_gap(self, gap: Forbidden, reason: str, now: float) -> None:
        """The addresses between two halves were refused by themselves."""
        self.bad_gaps[gap] = self._doubt(self.bad_gaps.get(gap), reason, now)

    def blame_whole(self, split: Split, now: float) -> None:
        """Nothing in a block is bad by itself: it crosses a border, or it is too large: the second such block tells."""
        of_bits, count = split.halves[0].of_bits, split.whole.count
        border = split.whole.table, split.halves[1].block.address
        before = self._oversized.get(of_bits)
        if count <= self._largest[of_bits] or (before is None and of_bits not in self._sizes):
            self._borders[border] = now + 2 * self.recheck_s
            if count > self._largest[of_bits]:
                self._oversized[of_bits] = count, border
            return
        if before is not None:
            del self._oversized[of_bits]
            self._borders.pop(before[1], None)
            count = min(count, before[0])
        self._sizes[of_bits] = _Size(self._largest[of_bits], count, now + self.recheck_s)

    def blame_point(self, point: PointConfig, reason: str, now: float) -> None:
        """A point cannot be read even by itself."""
        self.bad_points[point.name] = self._doubt(self.bad_points.get(point.name), reason, now)
        self.pieces = [piece for piece in self.pieces if piece.block.points != (point,)]

    def absolve(self, point: PointConfig) -> None:
        """A bad point was read after all: whatever went bad together with it is trusted again too."""
        since = self.bad_points[point.name].since
        for trusted in self.spoiled:
            if self.bad_points[trusted.name].since == since:
                del self.bad_points[trusted.name]
                self.pieces.append(Piece(Block(self.plan.unit_id, trusted.table, (trusted,))))
        self._outdated = True

    def absolve_gap(self, gap: Forbidden) -> None:
        """A bad gap was read after all."""
        del self.bad_gaps[gap]
        self._outdated = True

    def _doubt(self, before: _Doubt | None, reason: str, now: float) -> _Doubt:
        first_s = min(_FIRST_RECHECK_S, self.recheck_s)
        if before is None:
            return _Doubt(reason, now, first_s, now + first_s)
        pause_s = min(2 * before.pause_s, self.recheck_s)
        return _Doubt(reason, before.since, pause_s, now + pause_s)

    # Doubting

    def due_point(self, now: float) -> PointConfig | None:
        """The bad point that is to be tried again, the one waiting longest first."""
        due = [point for point in self.spoiled if self.bad_points[point.name].due <= now]
        return min(due, key=lambda point: self.bad_points[point.name].due, default=None)

    def due_gap(self, now: float) -> Forbidden | None:
        """The bad gap that is to be tried again."""
        due = [gap for gap, doubt in self.bad_gaps.items() if doubt.due <= now]
        return min(due, key=lambda gap: self.bad_gaps[gap].due, default=None)

    def doubt_sizes(self, now: float) -> None:
        """Trust requests of any size and across any border again, where they were refused long ago."""
        sizes = {of_bits: size for of_bits, size in self._sizes.items() if size.due > now}
        borders = {border: due for border, due in self._borders.items() if due > now}
        self._outdated |= (sizes, borders) != (self._sizes, self._borders)
        for of_bits in self._sizes.keys() - sizes.keys():
            self._largest[of_bits] = 0
            self._oversized.pop(of_bits, None)
        self._sizes, self._borders = sizes, borders
