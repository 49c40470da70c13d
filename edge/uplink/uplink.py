"""The uplink: one connection after another, births before data, commands taken, and the lanes delivered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from typing import TYPE_CHECKING, Final

from edge.errors import SpoolError, UplinkError
from edge.uplink.announcing import Announcer
from edge.uplink.delivery import Delivery, retry_s
from edge.uplink.failures import Failures
from edge.uplink.host import PrimaryHost
from edge.uplink.link import Link, delivered, spell_puback
from edge.uplink.reach import Reach
from edge.uplink.receiving import Receiver, Takers
from edge.uplink.status import UplinkStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.delivery import DurableMark
    from contract.sparkplug import Payload
    from edge.sources.base import Clock
    from edge.spool import Spool
    from edge.uplink.births import NodeIdentity
    from edge.uplink.config import MqttConfig
    from edge.uplink.inbox import Incoming
    from edge.uplink.retained import Retained

logger = logging.getLogger(__name__)

_LONGEST_IDLE_S: Final = 5.0


class Uplink:
    """The way from the spool to the cloud, over as many connections as it takes. `wake` it after every commit.

    In the event loop, `on_births` hears that births are sent, so that nobody who reads them knows a value of before;
    `on_command` gets what is not for the uplink itself: the device (or NODE) and the command. `retained` is told of
    each connection, and offered what comes.
    """

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        config: MqttConfig,
        identity: NodeIdentity,
        spool: Spool,
        now_ms: Clock,
        *,
        on_births: Callable[[], None] = lambda: None,
        on_command: Callable[[str, Payload], None] = lambda _device, _command: None,
        retained: Retained | None = None,
    ) -> None:
        self.status = UplinkStatus()
        self._config = config
        self._spool = spool
        self._on_births = on_births
        self._retained = retained
        self._news = asyncio.Event()
        self._host = PrimaryHost(config.primary_host) if config.primary_host is not None else None
        self._reach = Reach(self._divert, config.resend_after_s)
        self._announcer = Announcer(config, identity, spool, now_ms, self._news.set)
        self._delivery = Delivery(config, spool, now_ms, self._announcer.seq, self._reach, self._news.set)
        takers = Takers(self._on_mark, self._announcer.ask, self._news.set, on_command)
        self._receiver = Receiver(self._host, takers)
        self._failures = Failures()
        self._link: Link | None = None
        self._has_other_certificate = self._is_draining = False

    def wake(self) -> None:
        """Something was committed to the spool."""
        self._delivery.committed()
        self._news.set()

    def introduce(self, identity: NodeIdentity) -> None:
        """The node has other metrics from now on: births are sent again, and deaths of the devices that are gone."""
        self._announcer.introduce(identity)

    def say(self, topic: str, payload: bytes) -> None:
        """Sends what is of no lane, at QoS 0; without a connection, or too large for the broker, it is lost."""
        if self._link is not None and len(payload) <= self._link.max_payload_bytes:
            self._link.publish(topic, payload, qos=0)

    def reconnect(self) -> None:
        """There is another certificate: the connection that was made by the old one ends, and the next is made."""
        self._has_other_certificate = True
        self._news.set()

    def drain(self) -> None:
        """From now on `run` ends, with a death, as soon as the spool is empty; no rate holds any more."""
        self._is_draining = True
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

    # One connection.

    async def _live(self) -> None:
        """One connection, from CONNECT to its loss, or to the empty spool of a node that stops."""
        link = await self._connect()
        try:
            self._link = link
            await self._subscribe(link)
            await self._wait_for_host(link)
            await self._give_birth(link)
            self._tell_connected(link)
            await self._deliver(link)
        finally:
            self._link, self.status.connected = None, False
            if self._retained is not None:
                self._retained.lost()
            self._reach.lost()
            # A clean goodbye takes back the will: told after all where the broker may not have the death.
            await link.close(tell_will=not await self._announcer.send_death(link))

    async def _connect(self) -> Link:
        will = await self._announcer.next_will()
        if self._host is not None:
            self._host.await_anew()
        self._has_other_certificate = False
        identity = self._announcer.identity
        client_id = self._config.client_id or f"{identity.group}-{identity.node}"
        link = await Link.connect(self._config, client_id, will, self._offer)
        link.lost.add_done_callback(lambda _: self._news.set())
        return link

    async def _subscribe(self, link: Link) -> None:
        """Commands and the host's state, before any birth: what is asked for after it must not be missed."""
        identity = self._announcer.identity
        topics = [identity.command_topic, identity.device_command_filter]
        await asyncio.gather(*map(link.subscribe, topics if self._host is None else [*topics, self._host.topic]))

    async def _wait_for_host(self, link: Link) -> None:
        if self._host_is_offline and self.status.error != str(away := self._host_away()):
            logger.info("%s: waiting for it", away)
            self.status.error = str(away)
        while self._host_is_offline:
            self._news.clear()
            link.check()
            if await self._is_done():
                raise self._host_away()
            await self._pause(_LONGEST_IDLE_S)

    async def _give_birth(self, link: Link) -> None:
        """Sends all births until somebody has taken them: data that come before their births are of no use."""
        for attempt in itertools.count(1):
            reason = await self._announcer.send_births(link)
            self._check(link)
            if delivered(reason):
                break
            self._reach.lost()
            self.status.connected, self.status.error = False, f"births {spell_puback(reason)}"
            if attempt == 1:
                logger.warning("births %s; tried again until somebody takes them", spell_puback(reason))
            await asyncio.wait([link.lost], timeout=retry_s(attempt))
        if attempt > 1:
            logger.info("births are taken")
        self.status.births += 1
        self.status.connected, self.status.error = True, None
        self._reach.gained()
        self._on_births()

    def _tell_connected(self, link: Link) -> None:
        logger.info("delivering to %s:%d", self._config.host, self._config.port)
        self.status.connections += 1
        self._failures.connected()
        if self._retained is not None:
            self._retained.connected(link)

    async def _deliver(self, link: Link) -> None:
        """Has the lanes delivered until the line is lost, the host gone, or a stop has drained the spool.

        It returns early where another connection is wanted: what is on its way is then sent again over that.
        """
        self._delivery.begin(link)
        while not self._has_other_certificate:
            self._news.clear()
            self._check(link)
            if self._announcer.due:
                await self._give_birth(link)
            empty = await self._delivery.step(self._announcer.identity, link, self._is_interrupted)
            if empty and await self._is_done():
                return
            self.status.unacknowledged = self._delivery.unacknowledged
            await self._pause(min(self._delivery.pause_s(link), _LONGEST_IDLE_S))

    def _is_interrupted(self) -> bool:
        return self._announcer.due or self._host_is_offline or self._has_other_certificate

    # What bears on it.

    @property
    def _host_is_offline(self) -> bool:
        return self._host is not None and not self._host.online

    def _host_away(self) -> UplinkError:
        return UplinkError(f"primary host {self._config.primary_host} is not online")

    def _check(self, link: Link) -> None:
        """Raises UplinkError where the connection is of no use any more."""
        link.check()
        if self._host_is_offline:
            raise self._host_away()

    async def _is_done(self) -> bool:
        """Whether a stop was asked for, and nothing is left to deliver."""
        if not self._is_draining or self._spool.buffered:
            return False
        try:
            extents = await self._spool.extents()
        except SpoolError:  # told by the spool; what lies there may be readable yet
            return False
        # What is durable is deleted with the next commit, which a stop must not wait for.
        await self._spool.flush()
        return not any(extent.depth for extent in extents.values())

    async def _pause(self, seconds: float) -> None:
        """Waits, unless there is news."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _divert(self, away: bool) -> None:  # noqa: FBT001 - as the spool has it
        self.status.away = away
        self._spool.divert(away)

    def _offer(self, message: Incoming) -> None:
        if self._retained is None or not self._retained.offer(message):
            self._receiver.inbox.offer(message)

    def _on_mark(self, mark: DurableMark) -> None:
        self.status.marks += self._delivery.take_mark(mark)
