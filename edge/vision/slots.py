"""Which frames of a camera are used. Pure."""

from __future__ import annotations

import math


class Slots:
    """Which frames of one connection are taken: the first of each slot floor(time / interval)."""

    def __init__(self, interval_s: float) -> None:
        self._interval_ms = interval_s * 1000
        self._last: int | None = None

    def takes(self, time_ms: float) -> bool:
        """Whether the frame of this time is the first of its slot."""
        slot = math.floor(time_ms / self._interval_ms)
        is_new, self._last = slot != self._last, slot
        return is_new
