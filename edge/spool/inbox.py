"""What other threads ask of the spool's: batches to keep, marks of what may be forgotten, and calls on its file."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from edge.errors import SpoolError
from edge.lane import Lane
from edge.spool.buffer import Buffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.delivery import BatchId, Gap
    from edge.batch import Batch
    from edge.spool.file import SpoolFile

    Call = Callable[[SpoolFile], SpoolError | None]


# What is durable waits for a batch to be committed with: a commit of its own wears the disk as much as one of data.
_FORGET_WITHIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to commit: batches, what was dropped before them, through which number each epoch is durable."""

    batches: list[Batch] = field(default_factory=list)
    lost: list[tuple[str, Gap]] = field(default_factory=list)
    durable: dict[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.batches or self.lost or self.durable)

    def split(self, max_bytes: int) -> tuple[Work, Work]:
        """The first of it, with no more payload than `max_bytes` unless one batch alone has more, and the rest."""
        sizes = accumulate(len(batch.payload) for batch in self.batches)
        count = max(1, sum(size <= max_bytes for size in sizes))
        return replace(self, batches=self.batches[:count]), Work(self.batches[count:])


class Inbox:
    """Filled by any thread, emptied by the spool's, which alone calls `wait`, `done` and `put_back`."""

    def __init__(self, buffer_bytes: int, commit_interval_s: float, booted_ms: Callable[[], int | None]) -> None:
        self.is_closing = False
        self.is_clean = False
        self._changed = threading.Condition()
        self._buffer = Buffer(buffer_bytes, booted_ms)
        self._commit_interval_s = commit_interval_s
        self._commit_at = math.inf
        self._calls: list[Call] = []
        self._durable: dict[int, int] = {}
        # How many batches are being committed.
        self._in_hand = 0
        self._is_failing = False
        self._is_away = False

    def put(self, batch: Batch) -> None:
        """Takes a batch."""
        with self._changed:
            if self._is_away and batch.lane is Lane.LIVE:
                batch = replace(batch, lane=Lane.BACKFILL)
            self._buffer.put(batch)
            self._commit_within(self._commit_interval_s)

    def divert(self, away: bool) -> None:  # noqa: FBT001 - whether the uplink is away, and nothing else
        """Says whether live batches are kept for replay from now on."""
        with self._changed:
            self._is_away = away

    def forget(self, through: BatchId) -> None:
        """Every batch of an epoch up to this one is durable."""
        with self._changed:
            self._note_durable(through.epoch, through.batch_no)
            self._commit_within(max(self._commit_interval_s, _FORGET_WITHIN_S))

    def ask(self, call: Call) -> None:
        """Takes a call on the file; raises SpoolError once it is closing."""
        with self._changed:
            if self.is_closing:
                raise SpoolError("the spool is closed")
            self._calls.append(call)
            self._changed.notify()

    def hurry(self) -> None:
        """What is there is committed with the next call, and not later."""
        with self._changed:
            self._commit_at = 0.0

    def close(self, *, clean: bool) -> None:
        """Asks for the end."""
        with self._changed:
            self.is_closing, self.is_clean = True, clean
            self._changed.notify()

    @property
    def buffered(self) -> int:
        """How many batches wait in memory for the disk."""
        with self._changed:
            return len(self._buffer) + self._in_hand

    @property
    def dropped_batches(self) -> int:
        """How many batches were lost while the disk failed."""
        return self._buffer.dropped_batches

    def wait(self, chores_at: float) -> tuple[Work, list[Call]]:
        """Waits until there is something to do, or it is time for the chores (in terms of `time.monotonic`)."""
        with self._changed:
            while not (self.is_closing or self._calls or min(self._commit_at, chores_at) <= time.monotonic()):
                idle_s = min(self._commit_at, chores_at) - time.monotonic()
                self._changed.wait(None if math.isinf(idle_s) else max(idle_s, 0.0))
            calls, self._calls = self._calls, []
            if not self.is_closing and self._commit_at > time.monotonic():
                return Work(), calls
            self._commit_at = math.inf
            work = Work(self._buffer.take(), self._buffer.take_lost(), self._durable)
            self._durable, self._in_hand = {}, len(work.batches)
            return work, calls

    def done(self) -> None:
        """What `wait` gave has been committed."""
        with self._changed:
            self._in_hand, self._is_failing = 0, False

    def put_back(self, work: Work, again_after_s: float) -> None:
        """What `wait` gave could not be committed, and is to be tried again."""
        with self._changed:
            for epoch, batch_no in work.durable.items():
                self._note_durable(epoch, batch_no)
            self._in_hand, self._is_failing = 0, True
            self._buffer.put_back(work.batches, work.lost)
            self._commit_at = time.monotonic() + again_after_s

    def _note_durable(self, epoch: int, batch_no: int) -> None:
        self._durable[epoch] = max(batch_no, self._durable.get(epoch, 0))

    def _commit_within(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        if at < self._commit_at and not self._is_failing:
            self._commit_at = at
            self._changed.notify()
