"""What waits in memory for the disk: batches, bounded in bytes, and what of them had to be dropped."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from contract.delivery import Gap
from edge.spool.dating import dated_gap
from edge.spool.eviction import Gaps, widen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge.batch import Batch

# What a batch in the buffer costs beyond its payload.
_OVERHEAD_BYTES: Final = 400


class Buffer:
    """Whoever calls holds a lock."""

    def __init__(self, most_bytes: int, booted_ms: Callable[[], int | None]) -> None:
        self.dropped_batches = 0
        self._most_bytes = most_bytes
        self._booted_ms = booted_ms
        self._batches: deque[Batch] = deque()
        self._bytes = 0
        self._lost = Gaps()

    def __len__(self) -> int:
        return len(self._batches)

    def put(self, batch: Batch) -> None:
        """Adds a batch, dropping the oldest where there is no room."""
        self._batches.append(batch)
        self._bytes += _cost(batch)
        self._bound()

    def take(self) -> list[Batch]:
        """Everything."""
        batches = list(self._batches)
        self._batches.clear()
        self._bytes = 0
        return batches

    def take_lost(self) -> list[tuple[str, Gap]]:
        """What was dropped, and is to be declared."""
        lost, self._lost = self._in_utc(self._lost), Gaps()
        return [(device, gap) for (device, _), gap in lost.items()]

    def put_back(self, batches: Sequence[Batch], lost: Sequence[tuple[str, Gap]]) -> None:
        """What was taken could not be kept."""
        for device, gap in lost:
            self._lose(device, gap)
        self._batches.extendleft(reversed(batches))
        self._bytes += sum(_cost(batch) for batch in batches)
        self._bound()

    def _bound(self) -> None:
        while self._bytes > self._most_bytes and len(self._batches) > 1:
            batch = self._batches.popleft()
            self._bytes -= _cost(batch)
            self.dropped_batches += 1
            self._lose(batch.device, Gap(batch.from_ms, batch.to_ms, "spool not writable"))

    def _lose(self, device: str, gap: Gap) -> None:
        self._lost = self._in_utc(self._lost)
        widen(self._lost, device, next(iter(self._in_utc({(device, gap.reason): gap}).values())))

    def _in_utc(self, gaps: Gaps) -> Gaps:
        booted_ms = self._booted_ms()
        return gaps if not booted_ms else {key: dated_gap(gap, booted_ms) for key, gap in gaps.items()}


def _cost(batch: Batch) -> int:
    return len(batch.payload) + _OVERHEAD_BYTES
