"""The node that our agents are: every batch stamped, sent at QoS 1, and kept until the bridge says it is durable."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from typing import TYPE_CHECKING, Final

from contract.sparkplug import as_historical, with_seq
from contract.topics import MessageType
from simulators.fleet.backlog import Backlog
from simulators.fleet.lane import Batch
from simulators.fleet.link import LOST, LineError, delivered
from simulators.fleet.node import Node
from simulators.fleet.pace import Allowance
from simulators.fleet.payloads import device_birth, gap_batch, node_birth, sample_batch
from simulators.fleet.signals import values
from simulators.fleet.timeline import State

if TYPE_CHECKING:
    from contract.delivery import BatchStamp, DurableMark
    from simulators.fleet.link import Link
    from simulators.fleet.roster import Member
    from simulators.fleet.world import World

_LONGEST_IDLE_S: Final = 5.0
# As agents have it: births that are asked for without end would leave no room for data.
_REBIRTHS_PER_S: Final = 0.2
_REBIRTHS_AT_ONCE: Final = 2


class DurableNode(Node):
    """Loses nothing but what its backlog has no room for, and declares that."""

    def __init__(self, member: Member, world: World) -> None:
        super().__init__(member, world)
        self._backlog = Backlog(world.config, self.now_ms())
        self._topic = self.identity.topic(MessageType.DDATA)
        self._rebirths = Allowance(_REBIRTHS_PER_S, _REBIRTHS_AT_ONCE)
        self._unheard_since_s = time.monotonic()
        self._is_unanswered = False
        self._resume_at_s = -math.inf
        self._refusals = 0
        self._is_full = False

    @property
    def depth(self) -> int:
        """How many batches are not known to be durable."""
        return self._backlog.depth

    def take_sample(self, number: int) -> None:
        """Keep a sample until it is durable; one that cannot be sent for long is for replay."""
        found, at_ms = values(self.identity.signals, number), self.now_ms()
        # First: what the ledger does not know must not be found in the tables.
        self.world.note(self.member.name, found, at_ms)
        self.world.counts.samples += 1
        batch = sample_batch(self.identity.signals, found, at_ms)
        if is_away := self._is_away:
            batch = Batch(as_historical(batch.payload), at_ms, at_ms)
        self._keep(batch, for_replay=is_away)
        self.news.set()

    def take_mark(self, mark: DurableMark) -> None:
        """Forget what is durable."""
        if count := self._backlog.take_mark(mark, time.monotonic()):
            self.world.counts.durable += count
            self._is_unanswered = False

    async def converse(self, link: Link) -> None:
        """Births, then the lanes, until the line is lost, the host or the node goes, or all is delivered at a stop."""
        await self.subscribe(link)
        while not self.host_is_online and not link.lost.done() and self.state is State.UP and not self.is_done:
            self.news.clear()
            await self.pause(_LONGEST_IDLE_S)
        try:
            if self._may_go_on(link):
                await self._give_birth(link)
                self._backlog.begin(time.monotonic())
            while self._may_go_on(link) and not self.is_done:
                self.news.clear()
                await self._step(link)
        finally:
            self._unheard_since_s = time.monotonic()
        if self.state is State.UP and not self.is_done:
            raise LineError(link.lost.result() if link.lost.done() else "the primary host is not online")

    @property
    def _is_away(self) -> bool:
        """Whether nothing could be delivered for some time."""
        away_s = time.monotonic() - self._unheard_since_s
        return self._is_unanswered or (not self.is_born and away_s > self.world.config.divert_after_s)

    def _may_go_on(self, link: Link) -> bool:
        return not link.lost.done() and self.state is State.UP and self.host_is_online

    async def _step(self, link: Link) -> None:
        now_s = time.monotonic()
        if self.is_birth_wanted and self._rebirths.take(now_s):
            await self._give_birth(link)
        if (gap := self._backlog.take_gap()) is not None:
            self.world.counts.gaps += 1
            self._keep(gap_batch(gap, self.now_ms()), for_replay=False)
        self._is_unanswered |= self._backlog.loses_patience(now_s)
        await self._send(link)
        if self.is_done:
            return
        now_s = time.monotonic()
        waits = [self._backlog.pause_s(now_s, _LONGEST_IDLE_S)]
        if self._resume_at_s > now_s:
            waits = [self._resume_at_s - now_s]
        if self.is_birth_wanted:
            waits.append(self._rebirths.wait_s(now_s))
        await self.pause(min(waits))

    async def _give_birth(self, link: Link) -> None:
        """Send both births until somebody has taken them, or the line is lost."""
        for attempt in itertools.count(1):
            self.is_birth_wanted = False
            self.seq.restart()
            now_ms = self.now_ms()
            reason = await self.publish(link, MessageType.NBIRTH, node_birth(self.bd_seq, now_ms))
            if delivered(reason):
                birth = device_birth(self.identity.signals, now_ms)
                reason = await self.publish(link, MessageType.DBIRTH, birth)
            if reason == LOST:
                return
            if delivered(reason):
                self.is_born = True
                self.world.counts.births += 1
                return
            self.world.counts.refused += 1
            await asyncio.wait([link.lost], timeout=self.retry_s(attempt))

    async def _send(self, link: Link) -> None:
        """Send until nothing may be sent, or there is something more urgent."""
        pause_s = self.member.pause_s
        while self._may_go_on(link) and time.monotonic() >= self._resume_at_s:
            self._is_full = link.in_flight >= link.receive_maximum
            if self._is_full or (turn := self._backlog.next(time.monotonic())) is None:
                return
            self._publish(link, *turn)
            # Others live on this loop, too.
            await asyncio.sleep(pause_s)
            if self.is_birth_wanted and not self._rebirths.wait_s(time.monotonic()):
                self.news.set()
                return

    def _publish(self, link: Link, stamp: BatchStamp, batch: Batch, is_repeated: bool) -> None:  # noqa: FBT001 - of a tuple
        self.world.counts.sent += 1
        self.world.counts.sent_again += is_repeated
        for _ in range(1 + self.member.duplicates):
            payload = with_seq(batch.payload, self.seq.next())
            answer = link.publish(self._topic, payload, stamp=stamp.to_properties())
            answer.add_done_callback(self._on_answer)

    def _on_answer(self, answer: asyncio.Future[int]) -> None:
        reason = answer.result()
        if reason == LOST:
            return
        if delivered(reason):
            self._refusals = 0
        elif time.monotonic() >= self._resume_at_s:
            self.world.counts.refused += 1
            self._refusals += 1
            self._resume_at_s = time.monotonic() + self.retry_s(self._refusals)
            self._backlog.retreat()
        if self._is_full:
            self.news.set()

    def _keep(self, batch: Batch, *, for_replay: bool) -> None:
        self.world.counts.evicted += self._backlog.keep(batch, for_replay=for_replay)
