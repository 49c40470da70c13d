"""A node's life: it samples by its clock, loses its line, goes and comes, and is connected whenever it can be."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from contract.delivery import DurableMark
from contract.errors import ContractError
from contract.hoststate import HostState, state_topic
from contract.sparkplug import REBIRTH, decode, with_seq
from contract.topics import NAMESPACE, MessageType
from simulators.fleet.clock import clock_of
from simulators.fleet.link import LineError, Link
from simulators.fleet.payloads import Identity, Seq, death
from simulators.fleet.roster import drawn
from simulators.fleet.signals import signals_of
from simulators.fleet.timeline import State, Timeline, spans

if TYPE_CHECKING:
    from contract.sparkplug import Metric
    from simulators.fleet.roster import Member
    from simulators.fleet.world import World

_RETRY_BASE_S: Final = 0.5
_RETRY_CAP_S: Final = 15.0
_DEATH_TIMEOUT_S: Final = 2.0
# A connection that is lost sooner than this counts as one more failure.
_STEADY_S: Final = 10.0
# Sparkplug gives the death's number one byte.
_BD_SEQ_MODULUS: Final = 256


class Node(ABC):
    """What every node does; how it talks is its kind's: what becomes of a sample, and what is said on a connection."""

    def __init__(self, member: Member, world: World) -> None:
        config = world.config
        self.member = member
        self.world = world
        self.identity = Identity(config.group, member.name, config.device, signals_of(config, member))
        self.clock = clock_of(config, member, true_ms())
        self.state = State.UP
        self.news = asyncio.Event()
        self.seq = Seq()
        self.link: Link | None = None
        self.is_born = False
        self.is_birth_wanted = False
        self.bd_seq = _BD_SEQ_MODULUS - 1
        self.host_is_online = config.broker.primary_host is None
        self._host_topic = None if self.host_is_online else state_topic(str(config.broker.primary_host))
        self._host_told_ms = 0
        self._frozen: Link | None = None
        self._chance = drawn(config.seed, "retries", member.number)

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many batches are kept."""

    @abstractmethod
    def take_sample(self, number: int) -> None:
        """Sample once."""

    @abstractmethod
    async def converse(self, link: Link) -> None:
        """All that is said on a connection, until it is lost, or the node is no longer up, or all is said at a stop."""

    @abstractmethod
    def take_mark(self, mark: DurableMark) -> None:
        """Take in the bridge's word on what is durable."""

    @property
    def is_done(self) -> bool:
        """Whether the fleet stops, and nothing is left to deliver."""
        return self.world.stopping.is_set() and self.depth == 0

    async def run(self) -> None:
        """Live until the fleet stops, and all is delivered."""
        try:
            async with asyncio.TaskGroup() as tasks:
                name = self.member.name
                tasks.create_task(
                    self._follow(Timeline(spans(self.world.config, self.member))), name=f"{name} timeline"
                )
                tasks.create_task(self._sample(), name=f"{name} samples")
                tasks.create_task(self._stay_connected(), name=f"{name} line")
        finally:
            self._thaw()

    def now_ms(self) -> int:
        """What the node takes for UTC."""
        return self.clock.now_ms(true_ms())

    def publish(self, link: Link, kind: MessageType, payload: bytes, qos: int = 1) -> asyncio.Future[int]:
        """Say something of this kind, with the next sequence number."""
        return link.publish(self.identity.topic(kind), with_seq(payload, self.seq.next()), qos=qos)

    def retry_s(self, failures: int) -> float:
        """Seconds after which what failed so often in a row is tried again: longer and longer, and never in step."""
        return min(_RETRY_CAP_S, _RETRY_BASE_S * 2.0 ** min(failures - 1, 16)) * (1 - self._chance.random() / 2)

    async def pause(self, seconds: float) -> None:
        """Wait, unless there is news."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.news.wait()

    async def subscribe(self, link: Link) -> None:
        """Listen for commands, and for the host's state, before any birth."""
        group, node = self.identity.group, self.identity.node
        topics = [self.identity.topic(MessageType.NCMD), f"{NAMESPACE}/{group}/{MessageType.DCMD}/{node}/+"]
        await link.subscribe([*topics, self._host_topic] if self._host_topic else topics)

    async def _follow(self, timeline: Timeline) -> None:
        """Do what the timeline says; when the fleet stops all come back."""
        while True:
            self._turn(timeline.at(self.world.now_s))
            if await self.world.stops_before(timeline.changes_at_s):
                self._turn(State.UP)
                self.news.set()
                return

    def _turn(self, state: State) -> None:
        if state is self.state:
            return
        self.state = state
        if self.link is not None and not self.link.lost.done() and state not in {State.UP, State.AWAY}:
            self.world.counts.lines_lost += 1
            (self.link.freeze if state is State.SILENT else self.link.cut)()
        self.news.set()

    async def _sample(self) -> None:
        interval_s = self.world.config.interval_s
        first_s = drawn(self.world.config.seed, "phase", self.member.number).random() * interval_s
        number = 0
        while not await self.world.stops_before(first_s + number * interval_s):
            due = max(number + 1, math.ceil((self.world.now_s - first_s) / interval_s))
            if not self.state.is_off:
                self.take_sample(number)
                self.world.counts.samples_skipped += due - number - 1
            number = due

    async def _stay_connected(self) -> None:
        config = self.world.config
        await self.world.stops_before(config.connect_within_s * self.member.number / config.nodes)
        failures = 0
        while not self.is_done:
            self.news.clear()
            if self.state.is_off:
                failures = 0
                await self.news.wait()
                continue
            began_s = time.monotonic()
            try:
                if self.state is State.UP:
                    await self._live()
            except LineError:
                self.world.counts.failed_connections += 1
            # Without a line it tries on, as an agent does: after an outage not all are back at the same moment.
            failures = 1 if time.monotonic() - began_s > _STEADY_S else failures + 1
            if self._misses_line:
                await asyncio.sleep(self.retry_s(failures))

    @property
    def _misses_line(self) -> bool:
        return not (self.is_done or self.state.is_off)

    async def _live(self) -> None:
        """One connection."""
        self._thaw()
        self.bd_seq = (self.bd_seq + 1) % _BD_SEQ_MODULUS
        broker, identity = self.world.config.broker, self.identity
        self.host_is_online = self._host_topic is None
        will = (identity.topic(MessageType.NDEATH), death(self.bd_seq, self.now_ms()))
        client_id = broker.client_id_of(identity.group, identity.node)
        tls = self.world.tls(identity.node)
        self.link = link = await Link.connect(broker, client_id, tls, will, self._on_message)
        link.lost.add_done_callback(lambda _: self.news.set())
        self.world.counts.connections += 1
        try:
            if self.state is State.UP:
                await self.converse(link)
        finally:
            self.link, born, self.is_born = None, self.is_born, False
            await self._leave(link, born=born)

    async def _leave(self, link: Link, *, born: bool) -> None:
        """End a connection as the node's state wants it: without a word, with the will, or with a goodbye."""
        if self.state is State.SILENT:
            link.freeze()
            self._frozen = link
        elif link.lost.done() or self.state in {State.CUT, State.KILLED}:
            link.cut()
        else:
            if born:
                told = link.publish(self.identity.topic(MessageType.NDEATH), death(self.bd_seq, self.now_ms()))
                await asyncio.wait([told], timeout=_DEATH_TIMEOUT_S)
            await link.close()

    def _thaw(self) -> None:
        """Give up a line that was silent."""
        if self._frozen is not None:
            self._frozen.cut()
            self._frozen = None

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - Link's callback
        try:
            if topic == self._host_topic:
                self._take_host(HostState.from_payload(payload))
            elif not retained:
                self._take_command(decode(payload).metrics)
        except ContractError:
            self.world.counts.not_understood += 1
        self.news.set()

    def _take_host(self, state: HostState) -> None:
        if state.timestamp >= self._host_told_ms:
            self.host_is_online, self._host_told_ms = state.online, state.timestamp

    def _take_command(self, metrics: tuple[Metric, ...]) -> None:
        if (mark := DurableMark.from_metrics(metrics)) is not None:
            self.take_mark(mark)
        if any(metric.name == REBIRTH and metric.value is True for metric in metrics):
            self.world.counts.births_asked_for += 1
            self.is_birth_wanted = True


def true_ms() -> int:
    """UTC in ms."""
    return time.time_ns() // 1_000_000
