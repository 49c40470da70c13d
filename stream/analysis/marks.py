"""How far series had come, reading by reading, whatever the micro-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from stream.analysis.arrivals import Arrivals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Times

# A device's clock may be a little ahead; one that is far ahead moves its series' mark no further than this.
AHEAD_MS: Final = 5_000
_NEVER: Final = 0


class Marks:
    """The time up to which each series is taken to be complete.

    That is its own latest reading, or the latest that its node sampled live, less `silence_ms`, whichever is later. A
    clock that is ahead counts as `AHEAD_MS` ahead of the bridge's, at most. What a node sends from its store says
    nothing about its other series; what waited for the bridge is judged by when it was sampled, as if it had not.
    """

    FORMAT: ClassVar[int] = 1

    def __init__(self, silence_ms: int, arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        self._silence_ms = silence_ms
        kept = arrays or {}
        self._own_ms = np.asarray(kept.get("own_ms", ()), np.int64)
        self._node_ms = np.asarray(kept.get("node_ms", ()), np.int64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its whole state."""
        return {"own_ms": self._own_ms, "node_ms": self._node_ms}

    def grow(self, slots: int, nodes: int) -> None:
        """Room for new series and nodes."""
        self._own_ms = np.append(self._own_ms, np.full(slots - len(self._own_ms), _NEVER, np.int64))
        self._node_ms = np.append(self._node_ms, np.full(nodes - len(self._node_ms), _NEVER, np.int64))

    def advance(
        self,
        slot: Slots,
        at_ms: Times,
        value: Floats,
        *,
        received_ms: Times,
        is_live: NDArray[np.bool_],
        node_of_slot: NDArray[np.int32],
    ) -> Arrivals:
        """Readings [n] in Kafka's order, each with its series' mark; `node_of_slot` int32 [slots]."""
        node = node_of_slot[slot]
        own_ms = np.minimum(at_ms, received_ms + AHEAD_MS)
        live_ms = np.where(is_live, np.minimum(at_ms, received_ms), _NEVER)
        mark_ms = np.maximum(
            max_before(own_ms, slot, self._own_ms), max_before(live_ms, node, self._node_ms) - self._silence_ms
        )
        np.maximum.at(self._own_ms, slot, own_ms)
        np.maximum.at(self._node_ms, node, live_ms)
        marks_ms = np.maximum(self._own_ms, self._node_ms[node_of_slot] - self._silence_ms)
        return Arrivals(slot, at_ms, value, mark_ms, marks_ms)


def max_before(values: Times, group: NDArray[np.int32], begun: Times) -> Times:
    """For each value the largest of its group just before it, int64 [n]; `begun` [groups]: what each begins with."""
    if not len(values):
        return np.empty(0, np.int64)
    order = np.argsort(group, kind="stable")
    of, sorted_values = group[order].astype(np.int64), values[order]
    least = int(sorted_values.min())
    span = int(sorted_values.max()) - least + 1
    assert (int(of[-1]) + 1) * span < 2**63  # 30,000 series, and times up to the year 9999
    # Each group a storey above the last one: one running maximum serves all.
    highest = np.maximum.accumulate(of * span + (sorted_values - least)) - of * span + least
    earlier = np.append(np.int64(_NEVER), highest[:-1])
    earlier[np.append(True, of[1:] != of[:-1])] = _NEVER
    out = np.empty(len(values), np.int64)
    out[order] = np.maximum(begun[of], earlier)
    return out
