"""Readings in the order in which they came, and how far each series had come by then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]
    Slots: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Numeric readings of a shard in Kafka's order, delivered again or not; a series is its `slot` in the shard.

    `slot` int32 [n]; `at_ms` int64 [n], sampled at, UTC; `value` float64 [n], NaN where it is not good.

    A series' *mark* is the time up to which it is taken to be complete: the latest `at_ms` of its own so far, or what
    its node had been heard of a minute before, whichever is later. `mark_ms` int64 [n] is that just before the reading
    came, `marks_ms` int64 [slots] after all of them. Both follow from the order of the node's records alone, so what is
    decided by them does not depend on the micro-batches.
    """

    slot: Slots
    at_ms: Times
    value: Floats
    mark_ms: Times
    marks_ms: Times


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Closed steps, in order of slot and time; a step without a good reading is not there.

    `slot` int32 [n]; `at_ms` int64 [n], its begin, whole steps; `value` float64 [n], the mean of its good readings;
    `readings` int32 [n], of how many.
    """

    slot: Slots
    at_ms: Times
    value: Floats
    readings: NDArray[np.int32]
