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

# For so long, by their series' mark, readings are remembered after they were used. A node that lost an acknowledgement
# sends again what was on its way: some twenty batches of a second.
REPEATS_MS: Final = 30_000


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """Readings whose step was closed when they came: `slot` int32 [n], `at_ms` int64 [n]."""

    slot: Slots
    at_ms: Times


class StepBook:
    """Closes a step when its series' mark is `grace_ms` past its end; its state is the readings of open steps.

    Of several readings of a series at the same time the one that came first counts, as in the table. One that is
    delivered again within REPEATS_MS is not late, though its step was closed; after that nobody can tell.
    """

    FORMAT: ClassVar[int] = 1

    def __init__(self, step_ms: int, grace_ms: int, arrays: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        self._step_ms = step_ms
        self._grace_ms = grace_ms
        kept = arrays or {}
        self._slot = np.asarray(kept.get("slot", ()), np.int32)
        self._at_ms = np.asarray(kept.get("at_ms", ()), np.int64)
        self._value = np.asarray(kept.get("value", ()), np.float64)
        self._used_slot = np.asarray(kept.get("used_slot", ()), np.int32)
        self._used_at_ms = np.asarray(kept.get("used_at_ms", ()), np.int64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state."""
        return {
            "slot": self._slot,
            "at_ms": self._at_ms,
            "value": self._value,
            "used_slot": self._used_slot,
            "used_at_ms": self._used_at_ms,
        }

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
        self._used_slot = np.concatenate([self._used_slot, slot[is_closed]])
        self._used_at_ms = np.concatenate([self._used_at_ms, at_ms[is_closed]])
        late = self._late(arrivals, np.flatnonzero(closed_before))
        still = self._used_at_ms + REPEATS_MS >= arrivals.marks_ms[self._used_slot]
        self._used_slot, self._used_at_ms = self._used_slot[still], self._used_at_ms[still]
        return self._means(slot[is_closed], at_ms[is_closed], value[is_closed]), late

    def _late(self, arrivals: Arrivals, places: NDArray[np.intp]) -> Late:
        """Those of the arrivals in these places that were not used before."""
        slot, at_ms = arrivals.slot[places], arrivals.at_ms[places]
        if len(places):
            # By the mark when it came: what is still remembered hangs on how the micro-batches are cut.
            is_recent = at_ms + REPEATS_MS >= arrivals.mark_ms[places]
            is_new = ~(is_recent & np.isin(_key(slot, at_ms), _key(self._used_slot, self._used_at_ms)))
            slot, at_ms = slot[is_new], at_ms[is_new]
        return Late(slot, at_ms)

    def _closed_at(self, at_ms: Times) -> Times:
        """The mark at which the step that a time lies in is closed."""
        return (at_ms // self._step_ms + 1) * self._step_ms + self._grace_ms

    def _means(self, slot: Slots, at_ms: Times, value: Floats) -> Steps:
        begin = at_ms // self._step_ms * self._step_ms
        first = firsts(slot, begin)
        readings = np.diff(np.append(first, len(slot))).astype(np.int32)
        sums = np.add.reduceat(value, first) if len(first) else np.empty(0)
        return Steps(slot[first], begin[first], np.asarray(sums / np.maximum(readings, 1), np.float64), readings)


def _key(slot: Slots, at_ms: Times) -> NDArray[np.int64]:
    """A number for each pair: a millisecond has room for 32,768 slots until the year 9999."""
    return np.asarray(at_ms * (1 << 15) + slot, np.int64)


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
