"""The agent's clock: UTC in milliseconds that never goes backwards within a run."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
# A wall clock that is set (NTP after boot, an operator, a resume) moves by more; one that is slewed never does.
_STEP_NS: Final = _NS_PER_S


class AnchoredClock:
    """UTC carried on by the monotonic clock from where the wall clock stood, and anchored anew when that is set.

    Set forward, it follows at once. Set back, it goes at half speed until the wall has caught up: were it to go
    back or stand still, two readings of one metric could get the same time, and the second would be lost.
    Safe to read from any thread.
    """

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        self._seen_ns = monotonic_ns()
        self._now_ns = wall_ns()
        self._is_ahead = False

    def now_ms(self) -> int:
        """UTC in ms; never less than what it said before."""
        with self._lock:
            self._advance()
            return self._now_ns // _NS_PER_MS

    def wall_offset_ms(self) -> int:
        """How far the wall clock is ahead of this one, in ms."""
        with self._lock:
            self._advance()
            return (self._wall_ns() - self._now_ns) // _NS_PER_MS

    def _advance(self) -> None:
        seen_ns, wall_ns = self._monotonic_ns(), self._wall_ns()
        passed_ns, self._seen_ns = seen_ns - self._seen_ns, seen_ns
        offset_ns = wall_ns - (self._now_ns + passed_ns)
        if offset_ns > _STEP_NS:
            logger.warning("the system's clock was set forward by %.1f s: readings follow it", offset_ns / _NS_PER_S)
            self._now_ns, self._is_ahead = wall_ns, False
            return
        if offset_ns < -_STEP_NS and not self._is_ahead:
            logger.warning(
                "the system's clock was set back by %.1f s: readings are timed at half speed until it has caught up",
                -offset_ns / _NS_PER_S,
            )
            self._is_ahead = True
        # Down to where it agrees, not only to where it would not be called a step.
        slowed_ns = min(passed_ns // 2, max(0, -offset_ns)) if self._is_ahead else 0
        self._is_ahead = self._is_ahead and slowed_ns < -offset_ns
        self._now_ns += passed_ns - slowed_ns
