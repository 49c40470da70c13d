"""What a node keeps: live batches, and those for replay, bounded together; what gives way is declared. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract.delivery import Gap
from simulators.fleet.lane import Lane
from simulators.fleet.pace import Allowance

if TYPE_CHECKING:
    from contract.delivery import BatchStamp, DurableMark
    from simulators.fleet.config import FleetConfig
    from simulators.fleet.lane import Batch

# At least so much of a lane gives way at once, so that gaps are few: the word on a gap takes room, too.
_EVICTED_SHARE: Final = 20


class Backlog:
    """Two lanes with an epoch each, as an agent's spool has them: live goes first, replay at a limited rate.

    It stands for a disk: a node that is switched off finds again what it had.
    """

    def __init__(self, config: FleetConfig, epoch: int) -> None:
        self._live = Lane(epoch, config.window, config.resend_after_s)
        self._replay = Lane(epoch + 1, config.window, config.resend_after_s)
        self._max_kept = config.max_kept
        self._rate = Allowance(config.replay_per_s, config.replay_per_s)
        self._gap: Gap | None = None

    @property
    def depth(self) -> int:
        """How many batches are not known to be durable, a gap that is still to be declared counted as one."""
        return len(self._live) + len(self._replay) + (self._gap is not None)

    def keep(self, batch: Batch, *, for_replay: bool) -> int:
        """Keep a batch; how many old ones had to give way, those for replay before live ones."""
        (self._replay if for_replay else self._live).add(batch)
        if len(self._live) + len(self._replay) <= self._max_kept:
            return 0
        # Never the batch that has just come: where it is the only one for replay, a live one gives way.
        lane = self._replay if len(self._replay) > for_replay else self._live
        evicted = max(1, (len(lane) - 1) // _EVICTED_SHARE)
        for _ in range(evicted):
            self._lose(lane.evict())
        return evicted

    def take_gap(self) -> Gap | None:
        """What is to be declared now, once."""
        gap, self._gap = self._gap, None
        return gap

    def begin(self, now_s: float) -> None:
        """A new connection whose births are out."""
        for lane in (self._live, self._replay):
            lane.begin(now_s)

    def retreat(self) -> None:
        """What was sent has reached nobody."""
        for lane in (self._live, self._replay):
            lane.retreat()

    def take_mark(self, mark: DurableMark, now_s: float) -> int:
        """Forget what is durable; how many batches that were."""
        return sum(lane.take(mark, now_s) for lane in (self._live, self._replay) if lane.epoch == mark.epoch)

    def next(self, now_s: float) -> tuple[BatchStamp, Batch, bool] | None:
        """What is sent now, noted as sent; None where nothing may be."""
        if self._live.sendable:
            return self._live.send(now_s)
        if self._replay.sendable and self._rate.take(now_s):
            return self._replay.send(now_s)
        return None

    def loses_patience(self, now_s: float) -> bool:
        """Whether marks were waited for too long; what they would have covered is sent again."""
        # Each is asked: one that loses patience begins anew.
        lost = [lane.loses_patience(now_s) for lane in (self._live, self._replay)]
        return any(lost)

    def pause_s(self, now_s: float, longest_s: float) -> float:
        """Seconds until there may be something to send, if nothing comes before."""
        waits = [lane.patience_s(now_s) for lane in (self._live, self._replay)]
        by_rate = [self._rate.wait_s(now_s)] if self._replay.sendable else []
        return min([longest_s, *by_rate, *(wait for wait in waits if wait is not None)])

    def _lose(self, batch: Batch) -> None:
        known = self._gap or Gap(batch.from_ms, batch.to_ms, "backlog full")
        self._gap = Gap(min(known.from_ms, batch.from_ms), max(known.to_ms, batch.to_ms), known.reason)
