"""The share of a processor that the camera's process may take: what is over it is left out, and slept off."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# What may be taken at once, and what may be owed before even reading has to wait: seconds of the processor.
_BURST_S: Final = 1.0
_OWED_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0


class Pace:
    """An account of processor time, into which `share` of every second is paid."""

    def __init__(
        self,
        share: float,
        used_s: Callable[[], float] = time.process_time,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._used_s = used_s
        self._clock_s = clock_s
        self._at_s = clock_s()
        self._used_then_s = used_s()
        self._owed_s = -share * _BURST_S

    def is_overdrawn(self) -> bool:
        """Whether more was taken than there was: the next frame is to be left out."""
        now_s, used_s = self._clock_s(), self._used_s()
        self._owed_s += used_s - self._used_then_s - self._share * (now_s - self._at_s)
        self._owed_s = max(self._owed_s, -self._share * _BURST_S)
        self._at_s, self._used_then_s = now_s, used_s
        return self._owed_s > 0

    @property
    def pause_s(self) -> float:
        """How long to wait where leaving out is not enough, because receiving alone takes more than there is."""
        return min(max(0.0, self._owed_s - _OWED_S) / self._share, _LONGEST_PAUSE_S)
