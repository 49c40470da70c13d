"""When to poll: arithmetic alone, in whole nanoseconds of a monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NS_PER_S: Final = 1_000_000_000
BACKOFF_BASE_S: Final = 1.0
BACKOFF_CAP_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment of the schedule: its number, when it is due, and how many before it were skipped for being late."""

    index: int
    due_ns: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Ticks at `origin_ns`, `origin_ns + interval_ns` and so on, wherever the polls in between may end."""

    origin_ns: int
    interval_ns: int

    @classmethod
    def starting(cls, origin_ns: int, interval_s: float) -> Schedule:
        """A schedule of `interval_s` seconds, at least 1 ns."""
        return cls(origin_ns, max(1, round(interval_s * _NS_PER_S)))

    @property
    def first(self) -> Tick:
        """The tick at the origin."""
        return Tick(0, self.origin_ns)

    def after(self, tick: Tick, now_ns: int) -> Tick:
        """The tick that follows: the next one, or, when that is past already, the first that is not."""
        elapsed_ns = now_ns - self.origin_ns
        not_past = -(-elapsed_ns // self.interval_ns)
        index = max(tick.index + 1, not_past)
        return Tick(index, self.origin_ns + index * self.interval_ns, index - tick.index - 1)


def backoff_s(failures: int, luck: float, *, base_s: float = BACKOFF_BASE_S, cap_s: float = BACKOFF_CAP_S) -> float:
    """Seconds to wait after so many failures in a row (1 or more): doubling from `base_s` up to `cap_s`.

    `luck`, from 0 to 1, takes away up to half, so that many nodes that failed together do not return together.
    """
    # 2**64 is past any cap; a greater exponent would overflow after days of failure.
    longest = min(cap_s, base_s * 2.0 ** min(failures - 1, 64))
    return longest * (1 - luck / 2)
