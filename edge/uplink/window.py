"""Which batch is sent next: a bounded window over the spool, and the patience before it is sent again. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SendWindow:
    """The batches from `base`, the oldest not known to be durable, up to but not including `next_no`, are out.

    Never more than `limit` are out, and they go out in order: whatever goes wrong, sending begins again at `base`.
    What arrives twice the database keeps once.
    """

    limit: int
    base: int = 1
    next_no: int = 1

    @property
    def room(self) -> int:
        """How many more batches may be sent now."""
        return self.base + self.limit - self.next_no

    @property
    def unacknowledged(self) -> int:
        """How many are out."""
        return self.next_no - self.base

    def sent(self, batch_no: int) -> None:
        """A batch has gone out."""
        self.next_no = batch_no + 1

    def advance(self, oldest: int) -> bool:
        """Everything before `oldest` is durable, or evicted; returns whether that is news."""
        if oldest <= self.base:
            return False
        self.base = oldest
        self.next_no = max(self.next_no, oldest)
        return True

    def rewind(self) -> None:
        """Sends again from the oldest."""
        self.next_no = self.base

    def restart(self, oldest: int) -> None:
        """Begins anew, for another epoch."""
        self.base = self.next_no = oldest


@dataclass(slots=True)
class Patience:
    """How long to wait for progress: `first_s`, doubling with every disappointment up to `longest_s`."""

    first_s: float
    longest_s: float
    _wait_s: float = 0.0
    _until_s: float = 0.0

    def reset(self, now_s: float) -> None:
        """There was progress, or a new beginning."""
        self._wait_s = self.first_s
        self.begin(now_s)

    def begin(self, now_s: float) -> None:
        """The wait begins, as long as it has become."""
        self._until_s = now_s + self._wait_s

    def exhausted(self, now_s: float) -> bool:
        """Whether the wait is over; if so the next one has begun, twice as long."""
        if now_s < self._until_s:
            return False
        self._wait_s = min(max(self._wait_s, self.first_s) * 2, self.longest_s)
        self.begin(now_s)
        return True

    def left_s(self, now_s: float) -> float:
        """Seconds until it is exhausted."""
        return max(0.0, self._until_s - now_s)
