"""What of a series is judged: its value, or the rate of one that only rises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stream.analysis.rounds import Field, SlotState
from stream.analysis.spread import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Times

# A counter that falls has begun anew if it falls to less than this share; another fall shows that it is none.
_ROLLED_OVER: Final = 0.5
# Of the steps without a fall so many have to rise: a set point that was raised twice is no counter.
_RISES: Final = 0.1
_FIELDS: Final = {
    "last_ms": Field(0, np.int64),
    "last": Field(np.nan),
    "unfallen": Field(0, np.int32),  # steps since the last fall
    "rises": Field(0, np.int32),  # among them
    "is_counter": Field(0, np.bool_),
}


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """Of a round of series, all [n]: `value` is what is judged, NaN where a counter has begun anew.

    A reading is `base` + `value` times `factor`. `has_turned` says that it is judged by something else than before.
    `elapsed_s` is the time since the last step, 0 for the first.
    """

    value: Floats
    base: Floats
    factor: Floats
    elapsed_s: Floats
    has_turned: NDArray[np.bool_]


class Signals:
    """Tells counters by how they go: no fall but to near zero in `counter_steps` steps, and a rise in some of them."""

    def __init__(self, counter_steps: int, arrays: Mapping[str, NDArray[np.generic]] | None) -> None:
        self._counter_steps = counter_steps
        self._state = SlotState(_FIELDS, arrays)
        self.arrays = self._state.arrays
        self.grow = self._state.grow

    def step(self, slot: Slots, at_ms: Times, reading: Floats) -> Signal:
        """What the next step of these series is judged by; a slot stands there once."""
        row = self._state.row
        last, was_counter = row("last", slot), row("is_counter", slot)
        is_first = np.isnan(last)
        elapsed_s = np.where(is_first, 0.0, (at_ms - row("last_ms", slot)) / 1000)
        change = np.where(is_first, 0.0, reading - last)
        least = ROUNDING * np.abs(reading)
        rolled_over = was_counter & (change < -least) & (reading >= 0) & (reading < _ROLLED_OVER * last)
        fell = (change < -least) & ~rolled_over
        unfallen = np.where(fell, 0, row("unfallen", slot) + 1)
        rises = np.where(fell, 0, row("rises", slot) + (change > least))
        is_counter = (unfallen >= self._counter_steps) & (rises >= _RISES * self._counter_steps)
        self._state.put(slot, last_ms=at_ms, last=reading, unfallen=unfallen, rises=rises, is_counter=is_counter)
        value = np.where(is_counter, change / elapsed_s, reading)
        return Signal(
            value=np.where(rolled_over, np.nan, value),
            base=np.where(is_counter, last, 0.0),
            factor=np.where(is_counter, elapsed_s, 1.0),
            elapsed_s=elapsed_s,
            has_turned=is_counter != was_counter,
        )
