"""The agent's clock: UTC in milliseconds that never goes backwards within a run."""

from __future__ import annotations

import time

_NS_PER_MS = 1_000_000


class AnchoredClock:
    """UTC read from the wall once, at the start, and carried on by the monotonic clock.

    A step of the wall clock (NTP after boot, an operator) therefore moves no reading; `wall_offset_ms` says by
    how much the wall has moved away since.
    """

    def __init__(self) -> None:
        self._anchor_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        """UTC in ms; never less than what it said before."""
        return (self._anchor_ns + time.monotonic_ns()) // _NS_PER_MS

    def wall_offset_ms(self) -> int:
        """How far the wall clock is ahead of this one, in ms."""
        return time.time_ns() // _NS_PER_MS - self.now_ms()
