"""The last steps of one input of one model: O(1) for a reading, and as much memory as the window needs. Pure.

No numpy: it alone would be a third of the agent's memory. The windows' arithmetic is done in the models' process.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from edge.inference.settings import BAD, GOOD, NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is no float32 is no number to a model.
_FLOAT32_MAX: Final = 3.4028234663852886e38
_MOST_COUNTED: Final = (1 << 32) - 1

Resample: TypeAlias = Literal["last", "mean", "min", "max"]


class Ring:
    """Values by step (`sampled_at` // step): of the newest `size` steps what `resample` makes of their good readings.

    Readings may come in any order. One before the oldest step is left out; `newest` is the newest step so far.
    """

    __slots__ = ("_marks", "_resample", "_size", "_states", "_step_ms", "_values", "newest")

    def __init__(self, size: int, step_ms: int, resample: Resample) -> None:
        self.newest = -1
        self._size = size
        self._step_ms = step_ms
        self._resample = resample
        # Not float32: the change of a great value would be lost in it.
        self._values = array("d", bytes(8 * size))
        self._states = bytearray(size)
        # Of a step: how many readings are in its mean, or how far into it its last one was, in ms.
        self._marks = array("I", bytes(4 * size))

    @property
    def rule(self) -> tuple[int, Resample]:
        """By what readings are brought to steps: only where it is the same can values be taken over."""
        return self._step_ms, self._resample

    def put(self, sampled_at_ms: int, value: object, *, good: bool = True) -> None:
        """Takes a reading; one that is not good, not a number or not finite marks its step."""
        step, into_ms = divmod(sampled_at_ms, self._step_ms)
        if step > self.newest:
            self._advance(step)
        elif step <= self.newest - self._size:
            return
        at = step % self._size
        # An int may be greater than any float, and NaN is in no range.
        if not good or not isinstance(value, int | float) or not -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
            if self._states[at] == NOTHING:
                self._states[at] = BAD
            return
        self._take(at, float(value), into_ms)

    def span(self, first: int, count: int) -> tuple[bytes, bytes]:
        """Values (float64, native order) and states (a byte each) of the steps from `first` on."""
        values, states = array("d", bytes(8 * count)), bytearray(count)
        for step, at, length in self._pieces(first, count):
            values[step - first : step - first + length] = self._values[at : at + length]
            states[step - first : step - first + length] = self._states[at : at + length]
        return values.tobytes(), bytes(states)

    def adopt(self, other: Ring) -> None:
        """Takes over what another of the same rule knows; it must be empty itself."""
        if other.newest < 0:
            return
        self.newest = other.newest
        oldest = max(0, other.newest - min(self._size, other._size) + 1)
        for step in range(oldest, other.newest + 1):
            at, theirs = step % self._size, step % other._size
            self._values[at] = other._values[theirs]
            self._states[at] = other._states[theirs]
            self._marks[at] = other._marks[theirs]

    def _take(self, at: int, value: float, into_ms: int) -> None:
        resample = self._resample
        if self._states[at] != GOOD:
            self._states[at], self._values[at] = GOOD, value
            self._marks[at] = into_ms if resample == "last" else 1
        elif resample == "last":
            if into_ms >= self._marks[at]:
                self._values[at], self._marks[at] = value, into_ms
        elif resample == "mean":
            count = self._marks[at] = min(self._marks[at] + 1, _MOST_COUNTED)
            self._values[at] += (value - self._values[at]) / count
        elif (value < self._values[at]) is (resample == "min"):
            self._values[at] = value

    def _advance(self, step: int) -> None:
        skipped = step - self.newest if self.newest >= 0 else self._size
        if skipped >= self._size:
            self._states = bytearray(self._size)
        else:
            for new in range(self.newest + 1, step + 1):
                self._states[new % self._size] = NOTHING
        self.newest = step

    def _pieces(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """(step, place, length) of the runs of steps that are known and lie side by side."""
        step = max(first, self.newest - self._size + 1, 0)
        end = min(first + count, self.newest + 1)
        while step < end:
            at = step % self._size
            length = min(end - step, self._size - at)
            yield step, at, length
            step += length
