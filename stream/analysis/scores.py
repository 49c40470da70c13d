"""How unusual steps are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Times


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """A detector's scores, in order of slot and time, all [n]; nothing of what it cannot judge yet.

    `at_ms` is the end of the step, or of the window that a model looked at. `value` and `expected` are in the series'
    unit (NaN for a model that tells none), `score` is 0 or above in the detector's own.
    """

    slot: Slots
    at_ms: Times
    value: Floats
    expected: Floats
    score: Floats

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Some of them, by mask or by place."""
        return type(self)(*(getattr(self, each.name)[chosen] for each in fields(self)))
