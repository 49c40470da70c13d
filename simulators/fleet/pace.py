"""How often something may be done. No I/O: the clock (monotonic seconds) is the caller's."""

from __future__ import annotations

import math


class Allowance:
    """So many a second, `at_once` of them without a pause."""

    def __init__(self, per_s: float, at_once: float) -> None:
        self._per_s = per_s
        self._at_once = max(1.0, at_once)
        self._left = self._at_once
        self._at_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Seconds until there is one; 0 when there is one now."""
        if now_s > self._at_s:
            self._left = min(self._at_once, self._left + (now_s - self._at_s) * self._per_s)
            self._at_s = now_s
        return max(0.0, (1 - self._left) / self._per_s)

    def take(self, now_s: float) -> bool:
        """Take one; False where there is none."""
        if self.wait_s(now_s):
            return False
        self._left -= 1
        return True


class Patience:
    """How long progress is waited for: `first_s`, and twice as long after every disappointment, up to `longest_s`."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = self._wait_s = first_s
        self._longest_s = longest_s
        self._until_s = math.inf

    def reset(self, now_s: float) -> None:
        """There was progress, or a new beginning."""
        self._wait_s = self._first_s
        self._until_s = now_s + self._wait_s

    def is_over(self, now_s: float) -> bool:
        """Whether the wait is over; if so the next one has begun."""
        if now_s < self._until_s:
            return False
        self._wait_s = min(2 * self._wait_s, self._longest_s)
        self._until_s = now_s + self._wait_s
        return True

    def left_s(self, now_s: float) -> float:
        """Seconds until it is over."""
        return max(0.0, self._until_s - now_s)
