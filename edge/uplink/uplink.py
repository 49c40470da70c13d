"""The uplink: one connection after another, births before data, commands taken, and the lanes delivered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from typing import TYPE_CHECKING, Final

from contract.sparkplug import with_seq
from edge.errors import SpoolError, UplinkError
from edge.uplink.births import BD_SEQ_MODULUS, Seq, births, death, device_death
from edge.uplink.delivery import Delivery, retry_s
from edge.uplink.failures import Failures
from edge.uplink.host import PrimaryHost
from edge.uplink.link import LOST, Link, delivered, spell_puback
from edge.uplink.reach import Reach
from edge.uplink.receiving import Receiver, Takers
from edge.uplink.status import UplinkStatus
from edge.uplink.turns import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.delivery import DurableMark
    from contract.sparkplug import Payload
    from edge.sources.base import Clock
    from edge.spool import Spool
    from edge.uplink.births import Birth, NodeIdentity
    from edge.uplink.config import MqttConfig
    from edge.uplink.inbox import Incoming
    from edge.uplink.retained import Retained

logger = logging.getLogger(__name__)

_LONGEST_IDLE_S: Final = 5.0
_DEATH_TIMEOUT_S: Final = 2.0
# Births are asked for by whoever missed them; asked for without end they would leave no room for data.
_REBIRTHS_PER_S: Final = 0.2
_REBIRTHS_AT_ONCE: Final = 2


class Uplink:
    """The way from the spool to the cloud, over as many connections as it takes. `wake` it after every commit.

    `on_command` gets what is not for the uplink itself: the device (or NODE) and the command, in the event loop.
    `retained` is told of each connection, and offered what comes.
    """

    def __init__(
        self,
        config: MqttConfig,
        identity: NodeIdentity,
        spool: Spool,
        now_ms: Clock,
        on_command: Callable[[str, Payload], None] = lambda _device, _command: None,
        retained: Retained | None = None,
    ) -> None:
        self.status = UplinkStatus()
        self._config = config
        self._identity = identity
        self._spool = spool
        self._now_ms = now_ms
        self._news = asyncio.Event()
        self._host = PrimaryHost(config.primary_host) if config.primary_host is not None else None
        self._reach = Reach(self._divert, config.resend_after_s)
        self._seq = Seq()
        self._delivery = Delivery(config, spool, now_ms, self._seq, self._reach, self._news.set)
        self._strict = config.profile == "strict"
        takers = Takers(self._on_mark, self._on_rebirth, self._news.set, on_command)
        self._receiver = Receiver(self._host, takers)
        self._rebirths = Bucket(_REBIRTHS_PER_S, _REBIRTHS_AT_ONCE)
        self._rebirth_wanted = self._has_changed = self._anew = False
        self._born: list[str] | None = None
        self._draining = False
        self._bd_seq = BD_SEQ_MODULUS - 1
        self._failures = Failures()
        self._link: Link | None = None
        self._retained = retained

    def wake(self) -> None:
        """Something was committed to the spool."""
        self._delivery.committed()
        self._news.set()

    def introduce(self, identity: NodeIdentity) -> None:
        """The node has other metrics from now on: births are sent again, and deaths of the devices that are gone."""
        self._identity = identity
        self._has_changed = True
        self._news.set()

    def say(self, topic: str, payload: bytes) -> None:
        """Sends what is of no lane, at QoS 0; without a connection, or too large for the broker, it is lost."""
        if self._link is not None and len(payload) <= self._link.max_payload_bytes:
            self._link.publish(topic, payload, qos=0)

    def reconnect(self) -> None:
        """There is another certificate: the connection that was made by the old one ends, and the next is made."""
        self._anew = True
        self._news.set()

    def drain(self) -> None:
        """From now on `run` ends, with a death, as soon as the spool is empty; no rate holds any more."""
        self._draining = True
        self._delivery.lift_rates()
        self._news.set()

    async def run(self) -> None:
        """Connects and delivers, again and again; returns only after `drain`, when all is delivered."""
        self._reach.lost()
        try:
            while not await self._is_done():
                try:
                    await self._live()
                except (UplinkError, SpoolError) as exc:
                    self._failures.failed(exc)
                    self.status.error = str(exc)
                    await asyncio.sleep(retry_s(self._failures.in_a_row))
        finally:
            self._reach.close()

    async def _live(self) -> None:
        """One connection, from CONNECT to its loss, or to the empty spool of a node that stops."""
        self._bd_seq = await self._next_bd_seq()
        will = (self._identity.death_topic, death(self._bd_seq, self._now_ms()))
        if self._host is not None:
            self._host.await_anew()
        self._anew = False
        client_id = self._config.client_id or f"{self._identity.group}-{self._identity.node}"
        link = await Link.connect(self._config, client_id, will, self._offer)
        try:
            link.lost.add_done_callback(lambda _: self._news.set())
            self._link = link
            await self._subscribe(link)
            await self._wait_for_host(link)
            await self._give_birth(link)
            self._tell_connected()
            if self._retained is not None:
                self._retained.connected(link)
            self._delivery.begin(link)
            await self._deliver(link)
        finally:
            self._link, self.status.connected = None, False
            if self._retained is not None:
                self._retained.lost()
            self._reach.lost()
            await self._leave(link)

    def _offer(self, message: Incoming) -> None:
        if self._retained is None or not self._retained.offer(message):
            self._receiver.inbox.offer(message)

    async def _subscribe(self, link: Link) -> None:
        """Commands and the host's state, before any birth: what is asked for after it must not be missed."""
        topics = [self._identity.command_topic, self._identity.device_command_filter]
        await asyncio.gather(*map(link.subscribe, topics if self._host is None else [*topics, self._host.topic]))

    async def _wait_for_host(self, link: Link) -> None:
        if self._host_is_offline and self.status.error != str(away := self._host_away()):
            logger.info("%s: waiting for it", away)
            self.status.error = str(away)
        while self._host_is_offline:
            self._news.clear()
            if link.lost.done():
                raise _lost(link)
            if await self._is_done():
                raise self._host_away()
            await self._pause(_LONGEST_IDLE_S)

    async def _give_birth(self, link: Link) -> None:
        """Sends all births until somebody has taken them: data that come before their births are of no use."""
        for attempt in itertools.count(1):
            self._rebirth_wanted = self._has_changed = False
            reason = await self._send_births(link)
            if reason == LOST:
                raise _lost(link)
            if self._host_is_offline:
                raise self._host_away()
            if delivered(reason):
                if attempt > 1:
                    logger.info("births are taken")
                self.status.births += 1
                self.status.connected, self.status.error = True, None
                self._reach.gained()
                return
            self._reach.lost()
            self.status.connected, self.status.error = False, f"births {spell_puback(reason)}"
            if attempt == 1:
                logger.warning("births %s; tried again until somebody takes them", spell_puback(reason))
            await asyncio.wait([link.lost], timeout=retry_s(attempt))

    async def _send_births(self, link: Link) -> int:
        """Sends NBIRTH, and every DBIRTH once that is taken; returns the worst reason, 0 when all are taken."""
        identity, now_ms = self._identity, self._now_ms()
        gone = [device for device in self._born or () if device not in identity.metrics]
        for device in gone:
            self._publish_birth(link, device_death(identity, device, now_ms))
        of_node, *of_devices = births(identity, self._bd_seq, now_ms, complete=self._strict)
        self._seq.restart()
        reason = await self._publish_birth(link, of_node)
        if not delivered(reason):
            return reason
        self._born = identity.devices
        answers: list[asyncio.Future[int]] = []
        for birth in of_devices:
            while link.in_flight >= link.receive_maximum:
                await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            answers.append(self._publish_birth(link, birth))
        return max(await asyncio.gather(*answers), default=0)

    def _publish_birth(self, link: Link, birth: Birth) -> asyncio.Future[int]:
        if len(birth.payload) > link.max_payload_bytes:
            raise UplinkError(
                f"the birth on {birth.topic} takes {len(birth.payload)} bytes, the broker takes "
                f"{link.max_payload_bytes}: let it take larger packets, or split the source"
            )
        payload = with_seq(birth.payload, self._seq.next())
        return link.publish(birth.topic, payload, qos=0 if self._strict else 1)

    async def _deliver(self, link: Link) -> None:
        """Has the lanes delivered until the line is lost, the host gone, or a stop has drained the spool.

        It returns early where another connection is wanted: what is on its way is then sent again over that.
        """
        while not link.lost.done():
            self._news.clear()
            if self._host_is_offline:
                raise self._host_away()
            if self._anew:
                return
            if self._births_are_due():
                await self._give_birth(link)
            empty = await self._delivery.step(self._identity, link, self._is_interrupted)
            if empty and await self._is_done():
                return
            self.status.unacknowledged = self._delivery.unacknowledged
            await self._pause(min(self._delivery.pause_s(link), _LONGEST_IDLE_S))
        raise _lost(link)

    def _births_are_due(self) -> bool:
        """Whether births are to be sent now; it is noted that they are."""
        if self._has_changed:
            return True
        now_s = time.monotonic()
        if not self._rebirth_wanted or self._rebirths.wait_s(now_s):
            return False
        self._rebirths.take(1, now_s)
        logger.info("births are asked for, and sent again")
        return True

    def _is_interrupted(self) -> bool:
        may_be_born = self._rebirth_wanted and not self._rebirths.wait_s(time.monotonic())
        return self._has_changed or may_be_born or self._host_is_offline or self._anew

    @property
    def _host_is_offline(self) -> bool:
        return self._host is not None and not self._host.online

    def _host_away(self) -> UplinkError:
        return UplinkError(f"primary host {self._config.primary_host} is not online")

    def _on_mark(self, mark: DurableMark) -> None:
        self.status.marks += self._delivery.take_mark(mark)

    def _on_rebirth(self) -> None:
        self._rebirth_wanted = True
        self._news.set()

    async def _leave(self, link: Link) -> None:
        """Ends a connection; a node that was born tells its death first, for a clean goodbye takes back the will.

        Where the broker does not say in time that it has the death, it is asked to tell the will after all.
        """
        born, self._born = self._born is not None, None
        told = True
        if born:
            answer = link.publish(self._identity.death_topic, death(self._bd_seq, self._now_ms()))
            await asyncio.wait([answer], timeout=_DEATH_TIMEOUT_S)
            told = answer.done()
        await link.close(tell_will=not told)

    def _divert(self, away: bool) -> None:  # noqa: FBT001 - as the spool has it
        self.status.away = away
        self._spool.divert(away)

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

    async def _is_done(self) -> bool:
        """Whether a stop was asked for, and nothing is left to deliver."""
        if not self._draining or self._spool.buffered:
            return False
        try:
            extents = await self._spool.extents()
        except SpoolError:  # told by the spool; what lies there may be readable yet
            return False
        # What is durable is deleted with the next commit, which a stop must not wait for.
        await self._spool.flush()
        return not any(extent.depth for extent in extents.values())

    def _tell_connected(self) -> None:
        logger.info("delivering to %s:%d", self._config.host, self._config.port)
        self.status.connections += 1
        self._failures.connected()


def _lost(link: Link) -> UplinkError:
    return UplinkError(f"connection lost: {link.lost.result()}")
