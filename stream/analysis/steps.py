"""Readings brought to steps: each step is closed once, and what comes after that is late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from stream.analysis.arrivals import Steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Arrivals, Floats, Slots, Times

_NONE: Final = {"slot": np.empty(0, np.int32), "at_ms": np.empty(0, np.int64), "value": np.empty(0)}


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """Readings whose step was closed when they came: `slot` int32 [n], `at_ms` int64 [n]."""

    slot: Slots
    at_ms: Times


class StepBook:
    """Closes a step when its series' mark is `grace_ms` past its end; its state is the readings of open steps.

    Of several readings of a series at the same time the one that came first counts, as in the table. A reading that is
    delivered again after its step was closed cannot be told from a late one.
    """

    FORMAT: ClassVar[int] = 1

    def __init__(self, step_ms: int, grace_ms: int, arrays: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        self._step_ms = step_ms
        self._grace_ms = grace_ms
        kept = arrays or _NONE
        self._slot = np.asarray(kept["slot"], np.int32)
        self._at_ms = np.asarray(kept["at_ms"], np.int64)
        self._value = np.asarray(kept["value"], np.float64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state."""
        return {"slot": self._slot, "at_ms": self._at_ms, "value": self._value}

    def grow(self, slots: int) -> None:
        """Nothing is kept by slot."""

    def advance(self, arrivals: Arrivals) -> tuple[Steps, Late]:
        """The steps that these readings close, and the readings that came too late for theirs."""
        closed_before = self._closed_at(arrivals.at_ms) <= arrivals.mark_ms
        taken = ~closed_before & np.isfinite(arrivals.value)
        slot = np.concatenate([self._slot, arrivals.slot[taken]])
        at_ms = np.concatenate([self._at_ms, arrivals.at_ms[taken]])
        value = np.concatenate([self._value, arrivals.value[taken]])
        order = first_of_each(slot, at_ms)
        slot, at_ms, value = slot[order], at_ms[order], value[order]
        is_closed = self._closed_at(at_ms) <= arrivals.marks_ms[slot]
        self._slot, self._at_ms, self._value = slot[~is_closed], at_ms[~is_closed], value[~is_closed]
        late = Late(arrivals.slot[closed_before], arrivals.at_ms[closed_before])
        return self._means(slot[is_closed], at_ms[is_closed], value[is_closed]), late

    def _closed_at(self, at_ms: Times) -> Times:
        """The mark at which the step that a time lies in is closed."""
        return (at_ms // self._step_ms + 1) * self._step_ms + self._grace_ms

    def _means(self, slot: Slots, at_ms: Times, value: Floats) -> Steps:
        begin = at_ms // self._step_ms * self._step_ms
        first = firsts(slot, begin)
        readings = np.diff(np.append(first, len(slot))).astype(np.int32)
        sums = np.add.reduceat(value, first) if len(first) else np.empty(0)
        return Steps(slot[first], begin[first], np.asarray(sums / np.maximum(readings, 1), np.float64), readings)


def first_of_each(slot: Slots, at_ms: Times) -> NDArray[np.int64]:
    """The places of readings in order of (slot, time), of equal ones the first alone."""
    order = np.lexsort((at_ms, slot))  # stable
    return np.asarray(order[firsts(slot[order], at_ms[order])], np.int64)


def firsts(*sorted_keys: NDArray[np.generic]) -> NDArray[np.int64]:
    """Where a run of equal keys begins."""
    if not len(sorted_keys[0]):
        return np.empty(0, np.int64)
    differs = np.zeros(len(sorted_keys[0]), bool)
    differs[0] = True
    for key in sorted_keys:
        differs[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(differs)
