"""Whose turn it is to send: the most urgent lane's, the others' under their rates, and none waits for ever. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from edge.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

# A lane that could have sent all the time, and had no turn for so long, sends one batch before its betters.
STARVED_S: Final = 1.0


class Bucket:
    """An allowance that grows by `per_s` up to `burst`. What is taken may exceed it: the debt is paid off first."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._level = burst
        self._at_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Seconds until something may be taken; 0 when it may be now."""
        self._fill(now_s)
        return max(0.0, -self._level / self._per_s)

    def take(self, amount: float, now_s: float) -> None:
        """Takes an amount, whether it is there or not."""
        self._fill(now_s)
        self._level -= amount

    def _fill(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._level = min(self._burst, self._level + (now_s - self._at_s) * self._per_s)
            self._at_s = now_s


class Rate:
    """What a lane may send: so many bytes and so many batches a second, a second's worth of them at once."""

    def __init__(self, bytes_per_s: float, batches_per_s: float = math.inf) -> None:
        self._bytes = Bucket(bytes_per_s, bytes_per_s)
        # A bucket without a bound would have infinities cancel each other.
        self._batches = None if math.isinf(batches_per_s) else Bucket(batches_per_s, max(0.0, batches_per_s - 1))

    def wait_s(self, now_s: float) -> float:
        """Seconds until a batch may be sent; 0 when it may be now."""
        wait_s = self._bytes.wait_s(now_s)
        return wait_s if self._batches is None else max(wait_s, self._batches.wait_s(now_s))

    def sent(self, size_bytes: int, now_s: float) -> None:
        """A batch was sent."""
        self._bytes.take(size_bytes, now_s)
        if self._batches is not None:
            self._batches.take(1, now_s)


class Turns:
    """Says, batch by batch, which lane sends: while a more urgent one waits, all others send one batch in a second."""

    def __init__(self, rates: Mapping[Lane, Rate]) -> None:
        self._rates = dict(rates)
        self._passed_over_since: dict[Lane, float] = {}
        self._favoured_at_s = -math.inf

    def lift(self) -> None:
        """From now on no rate holds: what is left is to be sent before a stop."""
        self._rates.clear()

    def whose(self, waiting: Mapping[Lane, int], now_s: float) -> tuple[Lane, int] | None:
        """Who sends now, and how many batches at most; None when nobody can.

        `waiting`: how many batches each lane could send if it were for them and the line alone.
        """
        able = [lane for lane in Lane if waiting.get(lane, 0) > 0 and not self._hold_s(lane, now_s)]
        if not able:
            return None
        first, *others = able
        self._passed_over_since = {lane: self._passed_over_since.get(lane, now_s) for lane in others}
        if others and now_s - self._favoured_at_s >= STARVED_S:
            longest = min(others, key=self._passed_over_since.__getitem__)
            if now_s - self._passed_over_since[longest] >= STARVED_S:
                self._favoured_at_s = now_s
                return longest, 1
        return first, waiting[first]

    def sent(self, lane: Lane, size_bytes: int, now_s: float) -> None:
        """A batch was sent."""
        self._passed_over_since.pop(lane, None)
        if lane in self._rates:
            self._rates[lane].sent(size_bytes, now_s)

    def may_go_on(self, lane: Lane, now_s: float) -> bool:
        """Whether a lane whose turn it is may send one more."""
        return not self._hold_s(lane, now_s)

    def wait_s(self, waiting: Mapping[Lane, int], now_s: float) -> float:
        """Seconds until a lane that waits may send by its rate; infinite when none waits for that."""
        return min((self._hold_s(lane, now_s) for lane, batches in waiting.items() if batches > 0), default=math.inf)

    def _hold_s(self, lane: Lane, now_s: float) -> float:
        rate = self._rates.get(lane)
        return 0.0 if rate is None else rate.wait_s(now_s)
