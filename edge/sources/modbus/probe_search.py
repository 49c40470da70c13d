"""Finding out what a device is like: searches, as generators that yield questions and take replies. No I/O.

All of them read, none of them writes. A search ends with what it found; where one may be cut short, what it
finds goes into something that is handed to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from edge.sources.modbus.points import Table

_ILLEGAL_FUNCTION: Final = 1
_BUSY: Final = frozenset({5, 6})
_FROM_GATEWAY: Final = frozenset({10, 11})
# Of a range that may be long: asked first, and again after a refusal.
_FIRST_SIZE: Final = 16
_SMALLEST_SIZE: Final = 8
# Blocks of a table that are not answered at all, after which the rest of it is left alone; each costs a time-out.
_FEW_SILENCES: Final = 3
_MOST_SILENCES: Final = 24
# Pauses that are tried, and how often in a row each has to do.
_PAUSES_S: Final = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_REPEATS: Final = 5
# The pause is known to a tenth of itself, or to a millisecond.
_PAUSE_SHARE: Final = 0.1
_PAUSE_LEAST_S: Final = 0.001
# No line has units at all of these: a device that answers here answers to any unit id.
_UNLIKELY: Final = (199, 213, 231)


@dataclass(frozen=True, slots=True)
class Question:
    """A read; `pause_s` is that before it where the search cares."""

    unit_id: int
    table: Table
    address: int
    count: int = 1
    pause_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An exception answer."""

    code: int

    @property
    def is_from_gateway(self) -> bool:
        """Whether a gateway says that the unit does not answer."""
        return self.code in _FROM_GATEWAY


Reply: TypeAlias = bytes | Refused | None
"""The data that were read, a refusal, or silence."""

T = TypeVar("T")
Search: TypeAlias = "Generator[Question, Reply, T]"


def is_alive(reply: Reply) -> bool:
    """Whether the unit itself said something: an exception is an answer, unless it is a gateway's."""
    return reply is not None and not (isinstance(reply, Refused) and reply.is_from_gateway)


# Units ------------------------------------------------------------------------------------------------------------


def find_units(
    candidates: Iterable[int], enough: int | None, found: list[int], table: Table = "holding"
) -> Search[bool]:
    """Which units answer, `enough` of them; True where any unit id is answered, and the first found stands for all."""
    for unit_id in candidates:
        if not is_alive((yield Question(unit_id, table, 0))):
            continue
        found.append(unit_id)
        if len(found) == 1 and (yield from _answers_to_any(unit_id, table)):
            return True
        if enough is not None and len(found) >= enough:
            break
    return False


def _answers_to_any(unit_id: int, table: Table) -> Search[bool]:
    for unlikely in _UNLIKELY:
        if unlikely != unit_id and not is_alive((yield Question(unlikely, table, 0))):
            return False
    return True


# The pause --------------------------------------------------------------------------------------------------------


def find_pause(question: Question) -> Search[float | None]:
    """The shortest pause with which a question that is answered is answered each time; None where none does."""
    failed_s = None
    for pause_s in _PAUSES_S:
        if (yield from _holds(question, pause_s)):
            return pause_s if failed_s is None else (yield from _narrow(question, failed_s, pause_s))
        failed_s = pause_s
    return None


def _holds(question: Question, pause_s: float) -> Search[bool]:
    for _ in range(_REPEATS):
        reply = yield replace(question, pause_s=pause_s)
        if reply is None or (isinstance(reply, Refused) and reply.code in _BUSY):
            return False
    return True


def _narrow(question: Question, failed_s: float, held_s: float) -> Search[float]:
    while held_s - failed_s > max(_PAUSE_LEAST_S, _PAUSE_SHARE * held_s):
        middle_s = (failed_s + held_s) / 2
        if (yield from _holds(question, middle_s)):
            held_s = middle_s
        else:
            failed_s = middle_s
    return held_s


# Ranges -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ranges:
    """What can be read of a table: addresses, their content, and why it ended early where it did."""

    table: Table
    spans: list[range]
    content: dict[int, bytes]
    gave_up: str | None = None

    def add(self, addresses: range, data: bytes) -> None:
        """Take in a block that was read; registers are kept, for their values."""
        if self.spans and self.spans[-1].stop == addresses.start:
            self.spans[-1] = range(self.spans[-1].start, addresses.stop)
        else:
            self.spans.append(addresses)
        if len(data) == 2 * len(addresses):
            self.content.update((at, data[2 * i : 2 * i + 2]) for i, at in enumerate(addresses))

    def is_over(self) -> bool:
        """Whether the rest is left alone."""
        return self.gave_up is not None

    @property
    def longest(self) -> range:
        """The longest run of addresses that can be read."""
        return max(self.spans, key=len, default=range(0))


class FindRanges:
    """Which addresses of a table can be read: in blocks that grow while they are, and in halves where they are not."""

    def __init__(self, unit_id: int, addresses: range, most: int, found: Ranges) -> None:
        self._unit_id, self._addresses, self._most, self._found = unit_id, addresses, most, found
        self._silences = 0

    def search(self) -> Search[None]:
        """Fill the ranges."""
        size, most, at = min(_FIRST_SIZE, self._most), self._most, self._addresses.start
        while at < self._addresses.stop and not self._found.is_over():
            block = range(at, min(at + size, self._addresses.stop))
            if (yield from self._read(block)):
                size = min(2 * size, most)
            elif (yield from self._halves(block)):
                # Nothing in it is illegal: it was too large.
                most = size = max(len(block) // 2, 1)
            else:
                size = min(max(size // 2, _SMALLEST_SIZE), most)
            at = block.stop

    def _read(self, block: range) -> Search[bool]:
        reply = yield Question(self._unit_id, self._found.table, block.start, len(block))
        if isinstance(reply, bytes):
            self._found.add(block, reply)
            return True
        if isinstance(reply, Refused):
            if reply.code == _ILLEGAL_FUNCTION:
                self._found.gave_up = "is none of its tables (exception 1)"
            elif reply.is_from_gateway:
                self._silent()
            return False
        self._silent()
        return False

    def _silent(self) -> None:
        self._silences += 1
        if self._silences >= (_MOST_SILENCES if self._found.spans else _FEW_SILENCES):
            self._found.gave_up = f"was not answered {self._silences} times: the rest was left alone"

    def _halves(self, block: range) -> Search[bool]:
        """Look into a block that was refused as a whole; whether all of it can be read in parts."""
        if len(block) == 1 or self._found.is_over():
            return False
        middle = _middle(block)
        whole = True
        for half in (range(block.start, middle), range(middle, block.stop)):
            if self._found.is_over():
                return False
            if not (yield from self._read(half)):
                whole = (yield from self._halves(half)) and whole
        return whole


def _middle(block: range) -> int:
    """About the middle of a block, where no value of two or four registers is likely to be cut in two."""
    middle = block.start + len(block) // 2
    for step in (4, 2):
        aligned = middle - middle % step
        if block.start < aligned:
            return aligned
    return middle


# Sizes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest block that was read; `is_limit` if one address more was refused."""

    count: int
    is_limit: bool


def find_largest(unit_id: int, table: Table, span: range, most: int) -> Search[Largest]:
    """The largest block that a device gives from a run of addresses each of which it gives."""
    count = min(most, len(span))
    if isinstance((yield Question(unit_id, table, span.start, count)), bytes):
        return Largest(count, is_limit=False)
    given, refused = 0, count
    while refused - given > 1:
        middle = (given + refused) // 2
        if isinstance((yield Question(unit_id, table, span.start, middle)), bytes):
            given = middle
        else:
            refused = middle
    return Largest(max(given, 1), is_limit=True)
