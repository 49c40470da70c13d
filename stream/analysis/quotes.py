"""Quotes and volumes as they came, kept for as long as a bar may still be corrected."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np

from stream.analysis.steps import first_of_each

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Times


@dataclass(frozen=True, slots=True, eq=False)
class Quotes:
    """Readings in order of slot and time, each time once; all [n]."""

    slot: Slots
    at_ms: Times
    value: Floats

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.generic]], kind: str) -> Self:
        """Those of a kind in a state."""
        if f"{kind}_at_ms" not in arrays:
            return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0))
        columns = ((each.name, f"{kind}_{each.name}") for each in fields(cls))
        types = {"slot": np.int32, "at_ms": np.int64, "value": np.float64}
        return cls(*(np.asarray(arrays[stored], types[name]) for name, stored in columns))

    def arrays(self, kind: str) -> dict[str, NDArray[np.generic]]:
        """The state of those of this kind."""
        return {f"{kind}_{each.name}": getattr(self, each.name) for each in fields(self)}

    def where(self, chosen: NDArray[np.generic]) -> Self:
        """Some of them."""
        return type(self)(self.slot[chosen], self.at_ms[chosen], self.value[chosen])

    def with_new(self, slot: Slots, at_ms: Times, value: Floats) -> Self:
        """Those that came are added; one of a time that is there already was delivered again."""
        every = type(self)(
            np.concatenate([self.slot, slot]),
            np.concatenate([self.at_ms, at_ms]),
            np.concatenate([self.value, value]),
        )
        return every.where(first_of_each(every.slot, every.at_ms))

    def after(self, slot: Slots, at_ms: Times) -> Self:
        """The one that follows each of these, where one does."""
        place = np.searchsorted(_place(self.slot, self.at_ms), _place(slot, at_ms), "right")
        return self.where(place[np.append(self.slot, -1)[place] == slot])


def _place(slot: Slots, at_ms: Times) -> NDArray[np.int64]:
    """A number for each pair, in their order: a slot has room for times until the year 2109."""
    return np.asarray((slot.astype(np.int64) << 42) + at_ms, np.int64)
