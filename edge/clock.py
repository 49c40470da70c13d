"""The agent's clock: UTC in milliseconds that never goes backwards, and the time since boot until UTC is known.

A device without a battery clock starts where it was switched off, or in 1970, until the network sets it. What is read
before is timed by the kernel's clock since boot, and dated once UTC is known: see `edge.spool.dating`.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
# A wall clock that is set (NTP after boot, an operator, a resume) moves by more; one that is slewed never does.
_STEP_NS: Final = _NS_PER_S
# 2024-01-01: no machine has this agent and an earlier date.
_PLAUSIBLE_MS: Final = 1_704_067_200_000

# From linux/timex.h.
_STA_UNSYNC: Final = 0x40
_TIMEX_LONGS: Final = 64


class ClockState(StrEnum):
    """Why the time is believed, or that it is not."""

    WAITING = "waiting"
    SYNCHRONISED = "synchronised"
    UNSYNCHRONISED = "trusted without sync"


def since_boot_ns() -> int:
    """Time since boot, sleep included: the same for every process until the next boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """What tells this boot from all others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def kernel_is_synchronised() -> bool:
    """Whether something (NTP, PTP, a GPS) keeps the system's clock right, as the kernel knows it."""
    # struct timex: `modes`, 0 to ask and change nothing, which takes the room of a long; four longs; `status`.
    timex = (ctypes.c_long * _TIMEX_LONGS)()
    if _libc().adjtimex(timex) < 0:
        return False
    return not ctypes.c_int.from_buffer(timex, 5 * ctypes.sizeof(ctypes.c_long)).value & _STA_UNSYNC


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class MachineClock:
    """What the machine knows of time. Tests drive it by hand."""

    wall_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    since_boot_ns: Callable[[], int] = since_boot_ns
    is_synchronised: Callable[[], bool] = kernel_is_synchronised


class AnchoredClock:
    """UTC carried on by the monotonic clock from where the wall clock stood, and anchored anew when that is set.

    The wall clock is believed as soon as the kernel calls it synchronised; or, `wait_s` after boot, if it says a
    plausible time: nobody will set it then. Until then the time is that since boot.

    Set forward, it follows at once. Set back, it goes at half speed until the wall has caught up: were it to go
    back or stand still, two readings of one metric could get the same time, and the second would be lost. That may
    take as long as it was wrong: what has to be right at once, such as whether something has expired, asks `wall_ms`.
    Safe to read from any thread.
    """

    def __init__(self, wait_s: float = 0.0, machine: MachineClock | None = None) -> None:
        self._machine = machine or MachineClock()
        self._wait_ns = int(wait_s * _NS_PER_S)
        self._earliest_ms = _PLAUSIBLE_MS
        self._lock = threading.Lock()
        self._seen_ns = self._machine.monotonic_ns()
        self._now_ns = 0
        self._is_ahead = False
        self._has_waited = False
        self._booted_ms: int | None = None
        self._settle()

    def now_ms(self) -> int:
        """UTC in ms, or the time since boot while UTC is not known; never less than what it said before."""
        with self._lock:
            if self._booted_ms is None and not self._settle():
                self._has_waited = True
                return self._machine.since_boot_ns() // _NS_PER_MS
            self._advance()
            return self._now_ns // _NS_PER_MS

    def utc_ms(self) -> int:
        """The best that is known of UTC in ms: what the machine says, even where it is not believed."""
        now_ms = self.now_ms()
        return now_ms if self.booted_ms() is not None else self.wall_ms()

    def wall_ms(self) -> int:
        """UTC in ms as the machine has it at this moment, to be held against others' times; it may go back."""
        return self._machine.wall_ns() // _NS_PER_MS

    def known_wall_ms(self) -> int | None:
        """The same; None while it is not believed."""
        return None if self.booted_ms() is None else self.wall_ms()

    def booted_ms(self) -> int | None:
        """UTC in ms at which the time since boot was 0; None while UTC is not known."""
        with self._lock:
            if self._booted_ms is None:
                self._settle()
            return self._booted_ms

    def not_before(self, kept_ms: int) -> None:
        """Tells it, before anything is read, until when (UTC ms) earlier runs have kept readings.

        A clock that is behind that, and not synchronised, is wrong.
        """
        with self._lock:
            self._earliest_ms = max(self._earliest_ms, kept_ms)
            if not self._is_believable():
                self._booted_ms = None
        if self.booted_ms() is None:
            logger.warning("%s", self.explain())

    def wall_offset_ms(self) -> int:
        """How far the wall clock is ahead of this one, in ms; 0 while UTC is not known."""
        with self._lock:
            if self._booted_ms is None:
                return 0
            self._advance()
            return (self._machine.wall_ns() - self._now_ns) // _NS_PER_MS

    @property
    def state(self) -> ClockState:
        """Why the time is believed, or that it is not."""
        if self.booted_ms() is None:
            return ClockState.WAITING
        return ClockState.SYNCHRONISED if self._machine.is_synchronised() else ClockState.UNSYNCHRONISED

    def explain(self) -> str:
        """The state in a sentence for a technician."""
        says = f"the system's clock says {_spelt(self._machine.wall_ns())}"
        match self.state:
            case ClockState.SYNCHRONISED:
                return f"{says}, and is synchronised"
            case ClockState.UNSYNCHRONISED:
                return f"{says}, and is believed although it is not synchronised"
        if self._machine.wall_ns() < self._earliest_ms * _NS_PER_MS:
            return f"{says}, before {_spelt(self._earliest_ms * _NS_PER_MS)}: wrong; readings are kept until it is set"
        left_s = (self._wait_ns - self._machine.since_boot_ns()) // _NS_PER_S
        return f"{says}, and may yet be set: readings are kept, and sent when it is, or in {max(0, left_s)} s"

    def _is_believable(self) -> bool:
        """Whether there is reason to believe the wall clock; called with the lock held."""
        wall_ns = self._machine.wall_ns()
        if wall_ns < _PLAUSIBLE_MS * _NS_PER_MS:
            return False
        if self._wait_ns == 0 or self._machine.is_synchronised():
            return True
        return self._machine.since_boot_ns() >= self._wait_ns and wall_ns >= self._earliest_ms * _NS_PER_MS

    def _settle(self) -> bool:
        """Believes the wall clock if there is reason to; called with the lock held."""
        if not self._is_believable():
            return False
        wall_ns, since_boot_ns = self._machine.wall_ns(), self._machine.since_boot_ns()
        self._seen_ns, self._now_ns, self._is_ahead = self._machine.monotonic_ns(), wall_ns, False
        self._booted_ms = (wall_ns - since_boot_ns) // _NS_PER_MS
        if self._has_waited:
            logger.info("the system's clock is believed: it is %s; what was read before is dated", _spelt(wall_ns))
        self._has_waited = False
        return True

    def _advance(self) -> None:
        seen_ns, wall_ns = self._machine.monotonic_ns(), self._machine.wall_ns()
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


def _spelt(utc_ns: int) -> str:
    return f"{datetime.fromtimestamp(utc_ns // _NS_PER_S, UTC):%Y-%m-%d %H:%M:%S} UTC"
