"""What one unit is asked, and what experience has taught about it. No I/O; times are seconds of a monotonic clock.

A request that is refused is asked in halves, down to the point that spoils it. Where both halves are answered the
addresses between them are to blame, if there are any and they are refused too; else the request was larger than the
device bears; or, if larger ones were answered, it crossed a border between two parts of the device's map. Whatever is
learned is doubted again later: devices are updated, and a fault may have been none of the addresses'.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from edge.sources.modbus.blocks import Forbidden, places
from edge.sources.modbus.pieces import Piece, Split
from edge.sources.modbus.points import BIT_TABLES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from edge.sources.modbus.blocks import Block
    from edge.sources.modbus.pieces import UnitPlan
    from edge.sources.modbus.points import PointConfig, Table

_FIRST_RECHECK_S: Final = 5.0


@dataclass(slots=True)
class _Doubt:
    """When something that was learned is looked at again."""

    reason: str
    since: float
    pause_s: float
    due: float


@dataclass(slots=True)
class _Size:
    """How many addresses a request may read: `refused` were not, `answered` were, or nobody has need of so many.

    Those between are tried.
    """

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
        if self._may_ask_more():
            self.replan()

    def _may_ask_more(self) -> bool:
        """Whether no request of the plan is of a size that is still to be tried: then larger ones are."""
        asks_more = False
        for of_bits, size in self._sizes.items():
            asked = max((piece.block.count for piece in self.pieces if piece.of_bits is of_bits), default=0)
            if asked <= size.answered < size.limit:
                size.answered = size.limit
                asks_more = True
        return asks_more

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
        """The halves of a block that is not one place, to be asked in its stead."""
        return self._part(piece, Split(piece.block), piece.block.halves())

    def probe_block(self, number: int) -> Block:
        """As little as can be asked, by its number: of what is read or, where nothing is, of what was bad."""
        blocks = [piece.block for piece in self.pieces] or self._bad_places
        points = [(block, point) for block in blocks for point in block.points]
        block, point = points[number % len(points)]
        return block.around(point)[0]

    def split_off(self, probed: Block, in_vain: Collection[Piece]) -> Piece:
        """A probe was answered: its own piece; the others of its block are still to be asked.

        A block that was just now asked `in_vain` was too much, unless it has been answered before.
        """
        point = probed.points[0]
        if point.name in self.bad_points:
            self.absolve(probed)
        piece = next(piece for piece in self.pieces if point in piece.block.points)
        # Around it, not across: what is read twice in one poll would be two values at one time.
        blocks = sorted(piece.block.around(point), key=lambda block: block.address)
        if len(blocks) > 1:
            split = Split(piece.block, suspect=piece in in_vain and not piece.answered)
            parts = self._part(piece, split, blocks)
            piece = next(part for part in parts if part.block.points == probed.points)
        piece.answered, piece.failures, piece.unread = True, 0, 0
        return piece

    def _part(self, piece: Piece, split: Split, blocks: Iterable[Block]) -> Sequence[Piece]:
        split.parts = tuple(Piece(block, part_of=split, failures=piece.failures) for block in blocks)
        at = self.pieces.index(piece)
        self.pieces[at : at + 1] = split.parts
        return split.parts

    def answered(self, piece: Piece) -> Split | None:
        """A block was answered; the split of which no part is to blame, once all of them are."""
        piece.answered, piece.failures, piece.unread = True, 0, 0
        count, of_bits = piece.block.count, piece.of_bits
        if count > self._largest[of_bits]:
            self._answered_more(count, of_bits=of_bits)
        split = piece.part_of
        if split is None or not split.suspect or not all(part.answered for part in split.parts):
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
        """Plan anew where that can be better: every part was asked, and what spoils its whole is known."""
        parts = [piece for piece in self.pieces if piece.part_of is not None]
        if (parts or self._outdated) and all(piece.answered for piece in parts):
            self.replan()

    def blame_gap(self, gap: Forbidden, reason: str, now: float) -> None:
        """The addresses between two parts were refused by themselves."""
        self.bad_gaps[gap] = self._doubt(self.bad_gaps.get(gap), reason, now)

    def blame_whole(self, split: Split, now: float) -> None:
        """Nothing in a block is bad by itself: it crosses a border, or it is too large: the second such block tells."""
        of_bits, count = split.parts[0].of_bits, split.whole.count
        border = split.whole.table, split.parts[1].block.address
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

    def blame(self, place: Block, reason: str, now: float) -> None:
        """What stands in one place cannot be read even by itself."""
        for point in place.points:
            self.bad_points[point.name] = self._doubt(self.bad_points.get(point.name), reason, now)
        self.pieces = [piece for piece in self.pieces if piece.block.points != place.points]

    def absolve(self, place: Block) -> None:
        """What was bad was read after all: whatever went bad together with it is trusted again too."""
        since = self.bad_points[place.points[0].name].since
        trusted = [point for point in self.spoiled if self.bad_points[point.name].since == since]
        for point in trusted:
            del self.bad_points[point.name]
        self.pieces += [Piece(block) for block in places(self.plan.unit_id, trusted)]
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

    @property
    def _bad_places(self) -> list[Block]:
        return places(self.plan.unit_id, self.spoiled)

    def due_place(self, now: float) -> Block | None:
        """What was bad and is to be tried again, the one waiting longest first."""

        def due(place: Block) -> float:
            return self.bad_points[place.points[0].name].due

        return min((place for place in self._bad_places if due(place) <= now), key=due, default=None)

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
