"""What came of a sequence of batches: pure, one record at a time, in the order of a node's Kafka partition.

What is missing at the end depends on which records came, not on their order or how often; what was told as a gap and
then filled depends on their order too, never on how they were cut into micro-batches.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A hole is told when this much of the bridge's time has passed and it is still there: a bridge that sends again after a
# failure, and a batch that takes the way of the dead letters, come within seconds.
GRACE_MS: Final = 30_000
MAX_HOLES: Final = 64
MAX_FILLED: Final = 32

State: TypeAlias = Literal["open", "given_up", "earlier", "filled"]


class GapRow(NamedTuple):
    """A row of `gap` to be: batches `first` to `last`, of which `batches` are missing; times are UTC ms."""

    first: int
    last: int
    batches: int
    state: State
    from_ms: int
    to_ms: int
    opened_ms: int
    closed_ms: int | None


@dataclass(slots=True)
class Hole:
    """Batches that did not come, between two that did: received at `from_ms` (None: there is none) and `to_ms`.

    With fewer missing than lie between its ends it is coarse: several holes in one, since the node had too many.
    """

    first: int
    last: int
    missing: int
    from_ms: int | None
    to_ms: int
    noticed_ms: int
    is_told: bool = False

    @property
    def is_coarse(self) -> bool:
        """Whether it is not known which of its batches are missing."""
        return self.missing <= self.last - self.first


@dataclass(slots=True)
class Filled:
    """Batches that were told as a gap and came after all."""

    first: int
    last: int
    batches: int
    from_ms: int | None
    to_ms: int
    opened_ms: int
    closed_ms: int


_LAST: Final = attrgetter("last")


@dataclass(slots=True)
class Account:
    """An epoch of a node: `newest` is the highest batch that came, at `newest_ms`; the rest as in table node_epoch."""

    epoch: int
    newest: int = 0
    newest_ms: int | None = None
    heard_ms: int = 0
    oldest_first: int | None = None
    oldest: int | None = None
    holes: list[Hole] = field(default_factory=list)
    filled: list[Filled] = field(default_factory=list)

    def take(self, batch_no: int, oldest: int | None, at_ms: int) -> None:
        """Take note of a record, received at `at_ms`."""
        self.heard_ms = max(self.heard_ms, at_ms)
        self.tell(at_ms)
        # A bridge of before `oldest` was told: what lies below the first that came is not held against the node.
        floor = batch_no if oldest is None else oldest
        self.oldest_first = floor if self.oldest_first is None else min(self.oldest_first, floor)
        if oldest is not None:
            self.oldest = max(self.oldest or 0, oldest)
        if batch_no <= self.newest:
            self._fill(batch_no, at_ms)
            return
        if batch_no > self.newest + 1:
            missing = batch_no - 1 - self.newest
            self.holes.append(Hole(self.newest + 1, batch_no - 1, missing, self.newest_ms, at_ms, at_ms))
            self._bound_holes()
        self.newest, self.newest_ms = batch_no, at_ms

    def tell(self, now_ms: int) -> None:
        """Make gaps of the holes that have been there for `GRACE_MS`."""
        for hole in self.holes:
            hole.is_told = hole.is_told or now_ms >= hole.noticed_ms + GRACE_MS

    def pending_since_ms(self) -> int | None:
        """When the first hole that is no gap yet was noticed."""
        return min((hole.noticed_ms for hole in self.holes if not hole.is_told), default=None)

    def missing(self) -> dict[State, int]:
        """How many batches are missing, told or not, by what can still be hoped for."""
        counts: dict[State, int] = {"open": 0, "given_up": 0, "earlier": 0}
        for hole in self.holes:
            for _, _, batches, state in self._parts(hole):
                counts[state] += batches
        return counts

    def gaps(self) -> Iterator[GapRow]:
        """The rows of `gap` of this epoch, each with another `first`."""
        for hole in self.holes:
            if hole.is_told:
                for first, last, batches, state in self._parts(hole):
                    times = self._around(hole)
                    yield GapRow(first, last, batches, state, *times, hole.noticed_ms + GRACE_MS, None)
        for part in self.filled:
            times = self._around(part)
            yield GapRow(part.first, part.last, part.batches, "filled", *times, part.opened_ms, part.closed_ms)

    def _fill(self, batch_no: int, at_ms: int) -> None:
        at = bisect_left(self.holes, batch_no, key=_LAST)
        hole = self.holes[at] if at < len(self.holes) else None
        if hole is None or batch_no < hole.first:
            self._seen_again(at, batch_no, at_ms)
        elif not hole.is_coarse:
            self.holes[at : at + 1] = _split(hole, batch_no, at_ms)
            if hole.is_told:
                self._note_filled(hole, batch_no, at_ms)
            self._bound_holes()

    def _seen_again(self, at: int, batch_no: int, at_ms: int) -> None:
        """The first time at which a batch came counts, in whichever order its copies are read."""
        if at < len(self.holes) and self.holes[at].first == batch_no + 1:
            self.holes[at].from_ms = min(self.holes[at].from_ms or at_ms, at_ms)
        if at and self.holes[at - 1].last == batch_no - 1:
            self.holes[at - 1].to_ms = min(self.holes[at - 1].to_ms, at_ms)
        if batch_no == self.newest:
            self.newest_ms = min(self.newest_ms or at_ms, at_ms)

    def _note_filled(self, hole: Hole, batch_no: int, at_ms: int) -> None:
        opened_ms = hole.noticed_ms + GRACE_MS
        parts = [Filled(batch_no, batch_no, 1, hole.from_ms, hole.to_ms, opened_ms, at_ms)]
        at = bisect_left(self.filled, batch_no, key=_LAST)
        start = stop = at
        if at and self.filled[at - 1].last == batch_no - 1:
            start, parts = at - 1, [self.filled[at - 1], *parts]
        if at < len(self.filled) and self.filled[at].first == batch_no + 1:
            stop, parts = at + 1, [*parts, self.filled[at]]
        self.filled[start:stop] = [_joined_filled(parts)]
        if len(self.filled) > MAX_FILLED:
            self.filled[:2] = [_joined_filled(self.filled[:2])]

    def _bound_holes(self) -> None:
        while len(self.holes) > MAX_HOLES:
            self.holes[:2] = [_joined_holes(*self.holes[:2])]

    def _parts(self, hole: Hole) -> Iterator[tuple[int, int, int, State]]:
        """The hole cut where what can be hoped for changes: (first, last, how many, state)."""
        ends = (self.oldest_first or 0, self.oldest or 0)
        if hole.is_coarse:
            yield hole.first, hole.last, hole.missing, _state(hole.last, *ends)
            return
        cuts = sorted({hole.first, *(end for end in ends if hole.first < end <= hole.last), hole.last + 1})
        for first, end in pairwise(cuts):
            yield first, end - 1, end - first, _state(first, *ends)

    def _around(self, span: Hole | Filled) -> tuple[int, int]:
        # An epoch is named by when its spool was made, which is where the time before its first batch begins.
        from_ms = min(self.epoch, span.to_ms) if span.from_ms is None else span.from_ms
        return min(from_ms, span.to_ms), max(from_ms, span.to_ms)


def _state(batch_no: int, oldest_first: int, oldest: int) -> State:
    if batch_no < oldest_first:
        return "earlier"
    return "given_up" if batch_no < oldest else "open"


def _split(hole: Hole, batch_no: int, at_ms: int) -> list[Hole]:
    told = hole.noticed_ms, hole.is_told
    below = Hole(hole.first, batch_no - 1, batch_no - hole.first, hole.from_ms, at_ms, *told)
    above = Hole(batch_no + 1, hole.last, hole.last - batch_no, at_ms, hole.to_ms, *told)
    return [part for part in (below, above) if part.missing]


def _joined_holes(low: Hole, high: Hole) -> Hole:
    missing, noticed_ms = low.missing + high.missing, min(low.noticed_ms, high.noticed_ms)
    return Hole(low.first, high.last, missing, low.from_ms, high.to_ms, noticed_ms, low.is_told or high.is_told)


def _joined_filled(parts: Sequence[Filled]) -> Filled:
    return Filled(
        parts[0].first,
        parts[-1].last,
        sum(part.batches for part in parts),
        parts[0].from_ms,
        parts[-1].to_ms,
        min(part.opened_ms for part in parts),
        max(part.closed_ms for part in parts),
    )
