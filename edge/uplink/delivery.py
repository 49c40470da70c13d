"""The lanes on their way: what is sent next, what may be forgotten, and what is sent again."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.delivery import BatchId, BatchStamp
from contract.sparkplug import with_seq
from edge.batch import data_topic
from edge.lane import Lane
from edge.schedule import backoff_s
from edge.uplink.link import LOST, TOO_LARGE, delivered, spell_puback
from edge.uplink.outgoing import Outgoing
from edge.uplink.pace import Pace
from edge.uplink.progress import lanes
from edge.uplink.seldom import Seldom
from edge.uplink.turns import Bucket, Rate, Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.delivery import DurableMark
    from edge.sources.base import Clock
    from edge.spool import Spool, StoredBatch
    from edge.uplink.births import NodeIdentity, Seq
    from edge.uplink.config import MqttConfig
    from edge.uplink.link import Link
    from edge.uplink.reach import Reach

logger = logging.getLogger(__name__)

_READ_AT_ONCE: Final = 64
_REPLAYED: Final = frozenset({Lane.BACKFILL, Lane.IMAGE})
_RETRY_BASE_S: Final = 0.5
_RETRY_CAP_S: Final = 15.0
# A disk forgets once; who says so all the time lies, and each new epoch has everything sent again.
_RENEWALS_PER_S: Final = 1 / 600


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch on the line."""

    lane: Lane
    id: BatchId
    size_bytes: int
    at_s: float
    pace: Pace


class Delivery:
    """Sends the spool's lanes over one link after another, and has the spool forget what is durable.

    In the durable profile that is what the bridge's marks cover; in the strict one, what was written to a line that
    stands. `wake` is called when there is more to do.
    """

    def __init__(
        self, config: MqttConfig, spool: Spool, now_ms: Clock, seq: Seq, reach: Reach, wake: Callable[[], None]
    ) -> None:
        self._strict = config.profile == "strict"
        self._resend_after_s = config.resend_after_s
        self._spool = spool
        self._now_ms = now_ms
        self._seq = seq
        self._reach = reach
        self._wake = wake
        self._lanes = lanes(config)
        self._turns = Turns(_rates(config))
        self._outgoing = Outgoing(config.historical_after_s)
        self._pace = Pace()
        self._images_on_line = 0
        self._renewals = Bucket(_RENEWALS_PER_S, 0)
        self._disbelief = Seldom()
        self._beyond: int | None = None
        self._moved_at_s = -math.inf
        self._refusals = 0
        self._resume_at_s = -math.inf
        self._committed = False
        self._line_is_full = False

    @property
    def unacknowledged(self) -> int:
        """How many batches are out."""
        return sum(lane.window.unacknowledged for lane in self._lanes.values())

    def committed(self) -> None:
        """There are new batches in the spool."""
        self._committed = True

    def lift_rates(self) -> None:
        """From now on all lanes go as fast as they can."""
        self._turns.lift()

    def begin(self, link: Link) -> None:
        """Takes up a connection whose births are out."""
        now_s = time.monotonic()
        self._outgoing.connected(link.max_payload_bytes)
        self._pace, self._images_on_line = Pace(), 0
        self._resume_at_s = -math.inf
        for lane in self._lanes.values():
            lane.begin(now_s)

    def take_mark(self, mark: DurableMark) -> bool:
        """Takes in the bridge's word on what is durable; returns whether more of what this run has sent is."""
        self._wake()
        lane = next((lane for lane in self._lanes.values() if lane.epoch == mark.epoch != 0), None)
        if lane is None or self._strict:
            return False
        before = lane.durable_through
        if not lane.believe(mark.through):
            self._beyond = mark.through
        return lane.durable_through > before

    async def step(self, identity: NodeIdentity, link: Link, is_interrupted: Callable[[], bool]) -> bool:
        """Moves on as far as it can be done now; returns whether the spool's lanes are empty. Raises SpoolError."""
        self._committed = False
        await self._follow()
        self._resend_if_stuck()
        await self._send(identity, link, is_interrupted)
        return all(lane.depth == 0 for lane in self._lanes.values())

    def pause_s(self, link: Link) -> float:
        """Seconds until there is something to do, if nothing comes before."""
        now_s = time.monotonic()
        waits = [lane.patience.left_s(now_s) for lane in self._lanes.values() if lane.window.unacknowledged]
        if self._resume_at_s > now_s:
            waits.append(self._resume_at_s - now_s)
        return min([*waits, self._turns.wait_s(self._waiting(link), now_s)])

    async def _follow(self) -> None:
        """Takes in what the spool holds and what is durable, and has that forgotten."""
        now_s = time.monotonic()
        extents = await self._spool.extents() if await self._renew_if_beyond(now_s) else self._spool.held
        for which, lane in self._lanes.items():
            extent = extents[which]
            if lane.follow(extent, now_s):
                self._moved_at_s = now_s
                self._reach.gained()
            if extent.oldest <= lane.durable_through:
                self._spool.forget(BatchId(lane.epoch, lane.durable_through))

    async def _renew_if_beyond(self, now_s: float) -> bool:
        """Begins a new epoch after a mark of what was never sent: a card put back from an image has lost numbers."""
        through, self._beyond = self._beyond, None
        if through is None:
            return False
        if self._renewals.wait_s(now_s):
            if self._disbelief.speaks(now_s):
                logger.warning("marks of what was never sent go on (batch %d): they are not believed", through)
            return False
        self._renewals.take(1, now_s)
        logger.error("batch %d is durable but was never sent from here: a new epoch is begun", through)
        await self._spool.renew_epoch(self._lanes[Lane.LIVE].epoch)
        return True

    def _resend_if_stuck(self) -> None:
        if self._strict:
            # Nobody answers: what is not written yet will be, or the line is lost.
            return
        now_s = time.monotonic()
        for which, lane in self._lanes.items():
            if lane.loses_patience(now_s):
                logger.debug("no durable mark for lane %s, sending it again", which.name)
                if now_s - self._moved_at_s >= self._resend_after_s:
                    self._reach.lost(at_once=True)

    async def _send(self, identity: NodeIdentity, link: Link, is_interrupted: Callable[[], bool]) -> None:
        """Sends, turn by turn, until nobody can, or there is something new to look at first."""
        self._line_is_full = False
        while (turn := self._turns.whose(self._waiting(link), time.monotonic())) is not None:
            which, most = turn
            lane = self._lanes[which]
            batches = await self._spool.read_from(which, lane.window.next_no, min(most, _READ_AT_ONCE))
            if not batches:
                # Evicted since we looked: look again, so that the stamps say so.
                self._wake()
                return
            for batch in batches:
                if batch.batch_no != lane.window.next_no or link.lost.done():
                    self._wake()
                    return
                self._publish(identity, link, which, batch)
                # What is more urgent is to be known before the next one goes.
                await asyncio.sleep(0)
                if self._committed or is_interrupted():
                    self._wake()
                    return
                if which in _REPLAYED and not self._may_go_on(which, link):
                    break
        self._line_is_full = any(lane.room > 0 >= self._room(which, link) for which, lane in self._lanes.items())

    def _may_go_on(self, which: Lane, link: Link) -> bool:
        return self._turns.may_go_on(which, time.monotonic()) and self._room(which, link) > 0

    def _waiting(self, link: Link) -> dict[Lane, int]:
        """How many batches each lane could send."""
        if time.monotonic() < self._resume_at_s or link.lost.done():
            return {}
        if self._refusals or self._reach.is_away:
            # Whether anybody takes them is tried with one batch, of the lane that matters most.
            first = next((which for which, lane in self._lanes.items() if lane.depth), None)
            return {} if first is None or link.in_flight else {first: min(1, self._room(first, link))}
        return {which: self._room(which, link) for which, lane in self._lanes.items() if lane.room > 0}

    def _room(self, which: Lane, link: Link) -> int:
        # For each lane that is more urgent, a place on the line is left free.
        room = max(link.receive_maximum - which, 1) - link.in_flight
        if which in _REPLAYED:
            room = min(room, self._pace.room)
        if which is Lane.IMAGE:
            room = min(room, 1 - self._images_on_line)
        return min(room, self._lanes[which].room)

    def _publish(self, identity: NodeIdentity, link: Link, which: Lane, batch: StoredBatch) -> None:
        lane, now_s = self._lanes[which], time.monotonic()
        batch_id = BatchId(lane.epoch, batch.batch_no)
        payload = with_seq(self._outgoing.payload_of(which, batch, self._now_ms()), self._seq.next())
        topic = data_topic(identity.group, identity.node, batch.device)
        if self._strict:
            answer = link.publish(topic, payload, qos=0)
        else:
            answer = link.publish(topic, payload, stamp=BatchStamp(batch_id, lane.window.base).to_properties())
        lane.sent(batch.batch_no, now_s)
        self._turns.sent(which, len(payload), now_s)
        if which in _REPLAYED:
            self._pace.sent()
            self._images_on_line += which is Lane.IMAGE
        sent = _Sent(which, batch_id, len(payload), now_s, self._pace)
        answer.add_done_callback(functools.partial(self._on_answer, sent))

    def _on_answer(self, sent: _Sent, answer: asyncio.Future[int]) -> None:
        reason = answer.result()
        if reason == LOST:
            self._outgoing.unanswered(sent.id, sent.size_bytes)
            return
        self._outgoing.answered(sent.id)
        if sent.lane in _REPLAYED and sent.pace is self._pace:
            self._pace.answered(sent.at_s, time.monotonic())
            self._images_on_line -= sent.lane is Lane.IMAGE
        if reason == TOO_LARGE:
            self._outgoing.refused_as_too_large(sent.size_bytes)
        if delivered(reason):
            self._on_delivered(sent)
        else:
            self._on_refused(reason)

    def _on_delivered(self, sent: _Sent) -> None:
        lane = self._lanes[sent.lane]
        if self._refusals and time.monotonic() >= self._resume_at_s:
            logger.info("data are taken again")
            self._refusals = 0
            self._wake()
        if self._strict and lane.epoch == sent.id.epoch:
            lane.believe(sent.id.batch_no)
        if self._strict or self._line_is_full:
            self._wake()

    def _on_refused(self, reason: int) -> None:
        """Holds everything back for a while, and then tries with one batch."""
        now_s = time.monotonic()
        if now_s < self._resume_at_s:
            return
        if not self._refusals:
            logger.warning("data %s; kept, and tried again until somebody takes them", spell_puback(reason))
        self._refusals += 1
        self._resume_at_s = now_s + retry_s(self._refusals)
        for lane in self._lanes.values():
            lane.retreat()
        self._reach.lost()
        self._wake()


def retry_s(failures: int) -> float:
    """Seconds after which what failed so many times in a row is tried again."""
    return backoff_s(failures, random.random(), base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)  # noqa: S311 - no secret


def _rates(config: MqttConfig) -> dict[Lane, Rate]:
    return {
        Lane.BACKFILL: Rate(config.backfill_bytes_per_s, config.backfill_batches_per_s),
        Lane.IMAGE: Rate(config.image_bytes_per_s),
    }
