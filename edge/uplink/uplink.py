"""Delivers the spool: births first, then batches in order, deleted only when the bridge says that Kafka has them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.delivery import BatchId, BatchStamp, DurableMark
from contract.errors import CodecError
from contract.sparkplug import REBIRTH, SEQ_MODULUS, decode, with_seq
from edge.batch import data_topic
from edge.errors import SpoolError, UplinkError
from edge.lane import Lane
from edge.schedule import backoff_s
from edge.uplink.births import BD_SEQ_MODULUS, births, death
from edge.uplink.link import LOST, TOO_LARGE, Link, delivered, spell_puback
from edge.uplink.outgoing import Outgoing
from edge.uplink.window import Patience, SendWindow

if TYPE_CHECKING:
    from edge.config import MqttConfig
    from edge.sources.base import Clock
    from edge.spool import Extent, Spool
    from edge.uplink.births import NodeIdentity

logger = logging.getLogger(__name__)

_BACKOFF_BASE_S: Final = 0.5
_BACKOFF_CAP_S: Final = 15.0
_READ_AT_ONCE: Final = 64
_LONGEST_IDLE_S: Final = 5.0
# A connection that is lost sooner than this counts as one more failure: two nodes of one name throw each other out.
_STEADY_S: Final = 10.0
_DEATH_TIMEOUT_S: Final = 2.0


@dataclass(slots=True)
class UplinkStatus:
    """What is known of the uplink in this run."""

    connected: bool = False
    unacknowledged: int = 0
    connections: int = 0
    error: str | None = None


class Uplink:
    """The way from the spool to the bridge, over as many connections as it takes. `wake` it when there is news."""

    def __init__(self, config: MqttConfig, identity: NodeIdentity, spool: Spool, now_ms: Clock) -> None:
        self.status = UplinkStatus()
        self._config = config
        self._identity = identity
        self._spool = spool
        self._now_ms = now_ms
        self._window = SendWindow(config.window)
        self._patience = Patience(config.resend_after_s, config.resend_max_s)
        self._epoch = 0
        self._news = asyncio.Event()
        self._mark: DurableMark | None = None
        self._rebirth_wanted = False
        self._outgoing = Outgoing(config.historical_after_s)
        self._refused = False
        self._was_empty = True
        self._draining = False
        self._seq = 0
        self._bd_seq = BD_SEQ_MODULUS - 1
        self._failures = 0
        self._connected_at_s = math.inf

    def wake(self) -> None:
        """Something has changed: a batch was committed, or a stop was asked for."""
        self._news.set()

    def drain(self) -> None:
        """From now on `run` ends, with a death, as soon as the spool is empty."""
        self._draining = True
        self.wake()

    async def run(self) -> None:
        """Connects and delivers, again and again; returns only after `drain`, when all is delivered."""
        while not (self._draining and await self._is_empty()):
            try:
                await self._live()
            except (UplinkError, SpoolError) as exc:
                self._tell_failure(exc)
                await asyncio.sleep(_backoff_s(self._failures))

    async def _live(self) -> None:
        """One connection, from CONNECT to its loss, or to the empty spool of a node that stops."""
        self._bd_seq = await self._next_bd_seq()
        will = (self._identity.death_topic, death(self._bd_seq, self._now_ms()))
        link = await Link.connect(self._config, self._client_id, will, self._on_message)
        try:
            link.lost.add_done_callback(lambda _: self.wake())
            await link.subscribe(self._identity.command_topic)
            await self._give_birth(link)
            self._tell_connected()
            self._refused = False
            self._window.rewind()
            self._patience.reset(time.monotonic())
            self._outgoing.connected(link.max_payload_bytes)
            await self._deliver(link)
        finally:
            self.status.connected = False
            await self._leave(link)

    async def _give_birth(self, link: Link) -> None:
        """Sends all births until somebody has taken them: data that come before their births are of no use."""
        for attempt in itertools.count(1):
            self._rebirth_wanted = False
            reason = await self._send_births(link)
            if reason == LOST:
                raise UplinkError(f"connection lost: {link.lost.result()}")
            if delivered(reason):
                return
            if attempt == 1:
                logger.warning("births %s; tried again until somebody takes them", spell_puback(reason))
            await asyncio.wait([link.lost], timeout=_backoff_s(attempt))

    async def _send_births(self, link: Link) -> int:
        """Sends NBIRTH and every DBIRTH; returns the first reason that is not success, or 0."""
        self._seq = 0
        for birth in births(self._identity, self._bd_seq, self._now_ms()):
            if len(birth.payload) > link.max_payload_bytes:
                raise UplinkError(
                    f"the birth on {birth.topic} takes {len(birth.payload)} bytes, the broker takes "
                    f"{link.max_payload_bytes}: let it take larger packets, or split the source"
                )
            reason = await link.publish(birth.topic, with_seq(birth.payload, self._next_seq()))
            if not delivered(reason):
                return reason
        return 0

    async def _deliver(self, link: Link) -> None:
        """Sends what the spool holds and forgets what is durable, until the line is lost or a stop has drained it."""
        while not link.lost.done():
            self._news.clear()
            if self._rebirth_wanted:
                logger.info("births are asked for, and sent again")
                await self._give_birth(link)
            extent = await self._progress()
            if self._draining and extent.depth == 0 and await self._is_empty():
                return
            self._resend_if_stuck()
            await self._send(link, extent)
            self.status.unacknowledged = self._window.unacknowledged
            await self._pause(min(self._patience.left_s(time.monotonic()), _LONGEST_IDLE_S))
        raise UplinkError(f"connection lost: {link.lost.result()}")

    async def _progress(self) -> Extent:
        """Takes in the last mark, and moves the window over what is durable or evicted."""
        extent = (await self._spool.extents())[Lane.LIVE]
        mark, self._mark = self._mark, None
        if mark is not None and mark.epoch == extent.epoch and mark.through >= extent.next_no:
            # The disk has lost numbers that were sent: a card put back from an image, or one that lies about writing.
            logger.error("batch %d is durable but unknown here: a new epoch is begun", mark.through)
            await self._spool.renew_epoch(extent.epoch)
            extent = (await self._spool.extents())[Lane.LIVE]
        if extent.epoch != self._epoch:
            self._epoch = extent.epoch
            self._window.restart(extent.oldest)
            self._was_empty = True
        through = mark.through if mark is not None and mark.epoch == self._epoch else 0
        if through >= extent.oldest:
            self._spool.forget(BatchId(self._epoch, through))
        moved = self._window.advance(max(extent.oldest, through + 1))
        if moved or self._was_empty:
            self._patience.reset(time.monotonic())
        self._was_empty = self._window.base == extent.next_no
        return extent

    def _resend_if_stuck(self) -> None:
        if not self._was_empty and self._patience.exhausted(time.monotonic()):
            logger.debug("no durable mark for %d batches, sending them again", self._window.unacknowledged)
            self._window.rewind()
            self._refused = False

    async def _send(self, link: Link, extent: Extent) -> None:
        while not (self._refused or self._rebirth_wanted or link.lost.done()):
            room = min(
                self._window.room,
                extent.next_no - self._window.next_no,
                link.receive_maximum - link.in_flight,
                _READ_AT_ONCE,
            )
            batches = await self._spool.read_from(Lane.LIVE, self._window.next_no, room) if room > 0 else []
            if not batches:
                return
            if batches[0].batch_no != self._window.next_no:
                # Evicted since we looked: look again, so that the stamps say so.
                self.wake()
                return
            for batch in batches:
                payload = with_seq(self._outgoing.payload_of(batch, self._now_ms()), self._next_seq())
                topic = data_topic(self._identity.group, self._identity.node, batch.device)
                stamp = BatchStamp(BatchId(self._epoch, batch.batch_no), max(extent.oldest, self._window.base))
                answer = link.publish(topic, payload, stamp.to_properties())
                answer.add_done_callback(functools.partial(self._on_puback, batch.batch_no, len(payload)))
                self._window.sent(batch.batch_no)

    def _on_puback(self, batch_no: int, size_bytes: int, answer: asyncio.Future[int]) -> None:
        reason = answer.result()
        if reason == LOST:
            self._outgoing.unanswered(batch_no, size_bytes)
        else:
            self._outgoing.answered(batch_no)
        if reason == TOO_LARGE:
            self._outgoing.refused_as_too_large(size_bytes)
        if reason != LOST and not delivered(reason) and not self._refused:
            # Nothing more is sent until the patience is over; then again from the oldest.
            self._refused = True
            logger.warning("data %s; kept, and sent again later", spell_puback(reason))
        self.wake()

    def _on_message(self, topic: str, payload: bytes) -> None:
        try:
            command = decode(payload)
            mark = DurableMark.from_metrics(command.metrics)
        except CodecError as exc:
            logger.warning("a command on %s is not understood: %s", topic, exc)
            return
        if mark is not None and (
            self._mark is None or mark.epoch != self._mark.epoch or mark.through > self._mark.through
        ):
            self._mark = mark
        if any(metric.name == REBIRTH and metric.value is True for metric in command.metrics):
            self._rebirth_wanted = True
        self.wake()

    async def _leave(self, link: Link) -> None:
        """Ends a connection; where it stands, the death is told first, for a clean goodbye takes back the will.

        Where the broker does not say in time that it has the death, it is asked to tell the will after all.
        """
        told = link.publish(self._identity.death_topic, death(self._bd_seq, self._now_ms()))
        await asyncio.wait([told], timeout=_DEATH_TIMEOUT_S)
        await link.close(tell_will=not told.done())

    async def _pause(self, seconds: float) -> None:
        """Waits, unless there is news."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def _next_bd_seq(self) -> int:
        try:
            return await self._spool.next_bd_seq()
        except SpoolError:
            # A full disk must not keep us from delivering, which is what empties it.
            return (self._bd_seq + 1) % BD_SEQ_MODULUS

    async def _is_empty(self) -> bool:
        return not self._spool.buffered and not any(extent.depth for extent in (await self._spool.extents()).values())

    @property
    def _client_id(self) -> str:
        return self._config.client_id or f"{self._identity.group}-{self._identity.node}"

    def _next_seq(self) -> int:
        seq = self._seq
        self._seq = (seq + 1) % SEQ_MODULUS
        return seq

    def _tell_connected(self) -> None:
        logger.info("delivering to %s:%d", self._config.host, self._config.port)
        self.status.connected, self.status.error = True, None
        self.status.connections += 1
        self._connected_at_s = time.monotonic()

    def _tell_failure(self, fault: UplinkError | SpoolError) -> None:
        if time.monotonic() - self._connected_at_s > _STEADY_S:
            self._failures = 0
        self._connected_at_s = math.inf
        if self._failures == 0:
            logger.warning("%s; readings are spooled, and the connection tried again until it stands", fault)
        self._failures += 1
        self.status.error = str(fault)


def _backoff_s(failures: int) -> float:
    return backoff_s(failures, random.random(), base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S)  # noqa: S311 - no secret
