"""Batches of one epoch, numbered without holes, and kept until the bridge says that they are durable. No I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.delivery import BatchId, BatchStamp
from simulators.fleet.pace import Patience

if TYPE_CHECKING:
    from contract.delivery import DurableMark

_LONGEST_WAIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Batch:
    """An encoded DATA payload without a sequence number, and the span of its readings (UTC ms, the node's clock)."""

    payload: bytes
    from_ms: int
    to_ms: int


class Lane:
    """What is sent goes out in order, at most `window` of it before it is known to be durable.

    A mark is believed as far as was ever sent. Whatever goes wrong, sending begins again at the oldest batch.
    """

    def __init__(self, epoch: int, window: int, resend_after_s: float) -> None:
        self.epoch = epoch
        self._window = window
        self._kept: deque[Batch] = deque()
        self._oldest = 1
        self._next = 1
        self._sent_through = 0
        self._is_trying = False
        self._patience = Patience(resend_after_s, _LONGEST_WAIT_S)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def unanswered(self) -> int:
        """How many are out."""
        return self._next - self._oldest

    @property
    def sendable(self) -> int:
        """How many may be sent now: after a disappointment one, until that is durable."""
        most = min(self._window, 1) if self._is_trying else self._window
        return max(0, min(most, len(self)) - self.unanswered)

    def add(self, batch: Batch) -> None:
        """Keep a batch; it gets the next number."""
        self._kept.append(batch)

    def evict(self) -> Batch:
        """Give up the oldest."""
        batch = self._kept.popleft()
        self._oldest += 1
        self._next = max(self._next, self._oldest)
        return batch

    def begin(self, now_s: float) -> None:
        """A new connection: everything that is kept is sent again."""
        self._next = self._oldest
        self._is_trying = False
        self._patience.reset(now_s)

    def retreat(self) -> None:
        """What was sent has reached nobody: it is sent again, one batch first."""
        self._next = self._oldest
        self._is_trying = True

    def send(self, now_s: float) -> tuple[BatchStamp, Batch, bool]:
        """The next batch, noted as sent; whether it was sent before comes with it."""
        number = self._next
        if not self.unanswered and not self._is_trying:
            self._patience.reset(now_s)
        self._next += 1
        is_repeated, self._sent_through = number <= self._sent_through, max(number, self._sent_through)
        return BatchStamp(BatchId(self.epoch, number), self._oldest), self._kept[number - self._oldest], is_repeated

    def take(self, mark: DurableMark, now_s: float) -> int:
        """Forget what is durable; how many batches that were."""
        count = min(mark.through, self._sent_through) - self._oldest + 1
        if count <= 0:
            return 0
        for _ in range(count):
            self._kept.popleft()
        self._oldest += count
        self._next = max(self._next, self._oldest)
        self._is_trying = False
        self._patience.reset(now_s)
        return count

    def loses_patience(self, now_s: float) -> bool:
        """Whether what is out has waited too long for its mark; if so it is sent again."""
        if not self.unanswered or not self._patience.is_over(now_s):
            return False
        self.retreat()
        return True

    def patience_s(self, now_s: float) -> float | None:
        """Seconds until patience is lost; None where nothing is out."""
        return self._patience.left_s(now_s) if self.unanswered else None
