"""The agent: its node's readings into the spool, the spool delivered by the uplink, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from contract import __version__
from edge.aside import Aside
from edge.batch import gap_batch
from edge.clock import AnchoredClock
from edge.commands import Commands
from edge.enrol import renewal_of
from edge.errors import SpoolError
from edge.estimate import disk_room_bytes
from edge.health.notify import Notifier
from edge.health.page import open_health_page
from edge.health.report import (
    report_clock,
    report_identity,
    report_process,
    report_sources,
    report_spool,
    report_uplink,
    summary_of,
)
from edge.health.watchdog import Watchdog
from edge.lock import alone_in
from edge.log_desk import LogDesk
from edge.node import Node
from edge.reload import Reloading
from edge.spool import Spool, SpoolLimits
from edge.supervised import Parts
from edge.update.building import updates_of
from edge.update.probe import Condition
from edge.uplink import Uplink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge.config import AgentConfig
    from edge.log_ring import LogRing
    from edge.models import Models
    from edge.uplink import NodeIdentity

logger = logging.getLogger(__name__)

# What a stop waits for polls and writes in flight, however long they may take by their time-outs.
_ENDING_S: Final = 15.0


class Agent:
    """One edge node at work. `run` works until `stop`, which may be called from a signal handler.

    `reread` gives the configuration as it now stands in its file; without it there is no reload. `log` is what it can
    tell of its log, if anything. Without `config_file` it takes no updates. `wants_restart`: it ended to begin anew.
    """

    def __init__(
        self,
        config: AgentConfig,
        reread: Callable[[], AgentConfig] | None = None,
        notifier: Notifier | None = None,
        log: LogRing | None = None,
        config_file: Path | None = None,
    ) -> None:
        self.wants_restart = False
        self._stop_asked = asyncio.Event()
        self._notifier = notifier or Notifier(None)
        self._clock = clock = AnchoredClock(config.clock.wait_s)
        self._spool = self._new_spool(config)
        self._node = node = Node(config, clock, self._spool, self._introduce)
        self._reloading = Reloading(reread, node.take_in, self._notifier, self._stop_asked)
        aside = Aside(self._spool, node.intake, clock.now_ms)
        self._commands = Commands(
            node.roster, self._reloading.now, aside.answer, clock.known_wall_ms, config.max_command_age_s
        )
        self._updates, retained = updates_of(config, config_file, self, clock, aside.tell_updates)
        desk = LogDesk(log, (config.group, config.node), self._say, self._commands.submit)
        self._uplink = Uplink(
            config.broker,
            node.identity,
            self._spool,
            clock.utc_ms,
            on_births=self._forget,
            on_command=desk.submit,
            retained=retained,
        )
        self._renewal = renewal_of(config, clock, self._uplink.reconnect)
        self._watchdog = Watchdog(
            lambda: node.roster.pollers,
            self._spool.extents,
            lambda: summary_of(node.roster.pollers, self._uplink.status),
            self._notifier,
            config.stuck_after_s,
        )

    def _new_spool(self, config: AgentConfig) -> Spool:
        kept = config.spool
        return Spool(
            config.state_dir,
            SpoolLimits(kept.max_bytes, kept.buffer_bytes, kept.commit_interval_s, kept.min_free_bytes),
            self._clock.now_ms,
            lambda device, gap: gap_batch(device, gap, self._clock.now_ms()),
            self._wake,
            booted_ms=self._clock.booted_ms,
            devices=[*(source.name for source in config.sources), *(model.name for model in config.models)],
        )

    def stop(self) -> None:
        """Asks for an orderly end."""
        self._stop_asked.set()

    def reload_soon(self) -> None:
        """Asks for a reload, as SIGHUP does; what is wrong with the configuration is logged."""
        self._reloading.soon()

    async def run(self) -> None:
        """Works until it is stopped and what was polled is delivered, or `drain_timeout_s` is over.

        Cancelled, it ends at once; what was polled is spooled all the same. Raises EdgeError when it cannot begin.
        """
        with alone_in(self.config.state_dir):
            beginning = await self._spool.start()
            self._clock.not_before(beginning.newest_kept_ms)
            clean = False
            try:
                self._node.foresee_gaps(beginning)
                await self._work()
                clean = True
            finally:
                await self._spool.close(clean=clean)

    async def _work(self) -> None:
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            if self.config.health is not None:
                await open_health_page(stack, self.config.health.port, self.report)
            await stack.enter_async_context(self._node.roster.running())
            parts = Parts(group)
            parts.start("uplink", self._uplink)
            parts.start("node metrics", self._node.health)
            parts.start("renewal", self._renewal)
            parts.start("watchdog", self._watchdog)
            parts.start("models", self.models)
            parts.start("updates", self._updates)
            self._notifier.ready()
            await self._stop_asked.wait()
            await self._end(parts)

    async def _end(self, parts: Parts) -> None:
        """Ends first what would change or fill others, and last what sees to it that the end goes on."""
        logger.info("stopping: polls in flight may end")
        self._notifier.stopping()
        await parts.end("updates")
        self._node.roster.hurry(_ENDING_S)
        await self._commands.close(_ENDING_S)
        async with self._reloading.lock:
            await self._node.roster.end()
            await parts.end("models")
            self.models.close()
        await parts.end("node metrics", "renewal")
        await self._drain(parts)
        await parts.end("uplink", "watchdog")

    async def _drain(self, parts: Parts) -> None:
        """Delivers what is left while there is time; a spool that fails or hangs holds up no end."""
        with contextlib.suppress(SpoolError, TimeoutError):
            async with asyncio.timeout(_ENDING_S):
                await self._spool.flush()
        if depth := self._spool.depth:
            logger.info("stopping: up to %g s for %d batches to be delivered", self.config.drain_timeout_s, depth)
        self._uplink.drain()
        if not await parts.have_ended("uplink", self.config.drain_timeout_s):
            logger.warning("stopping with %d batches in the spool, for the next run to deliver", self._spool.depth)

    # The uplink has to be there before the first of these is called, not before it is handed over.

    def _wake(self) -> None:
        self._uplink.wake()

    def _introduce(self, identity: NodeIdentity) -> None:
        self._uplink.introduce(identity)

    def _say(self, topic: str, payload: bytes) -> None:
        self._uplink.say(topic, payload)

    def _forget(self) -> None:
        self._node.forget()
        if self._updates is not None:
            self._updates.forget()

    # What updates are carried out on.

    @property
    def config(self) -> AgentConfig:
        """What it runs by."""
        return self._node.config

    @property
    def models(self) -> Models:
        """The models that it serves."""
        return self._node.models

    @property
    def condition(self) -> Condition:
        """How it fares."""
        status = self._uplink.status
        states = {name: poller.status.state for name, poller in self._node.roster.pollers.items()}
        return Condition(status.connected and not status.away, status.marks, states, status.error)

    async def reload(self) -> str | None:
        """Takes in the configuration as its file now has it; says what has to wait for a restart. Raises EdgeError."""
        return await self._reloading.now()

    def restart(self) -> None:
        """Ends in good order, to be started again."""
        self.wants_restart = True
        self.stop()

    async def room_bytes(self) -> int:
        """What its disk has free beside what the spool may yet need."""
        try:
            extents = await self._spool.extents()
        except SpoolError:
            return 0
        held = sum(extent.size_bytes for extent in extents.values())
        return disk_room_bytes(self.config) - max(0, self.config.spool.max_bytes - held)

    async def report(self) -> dict[str, object]:
        """What the health page shows."""
        config, node, commands = self.config, self._node, self._commands
        return {
            "node": f"{config.group}/{config.node}",
            "version": __version__,
            "uptime_s": round(node.health.uptime_s, 1),
            "stuck": list(self._watchdog.stuck),
            "clock": report_clock(self._clock),
            "uplink": report_uplink(self._uplink.status),
            "identity": None if self._renewal is None else report_identity(self._renewal.status),
            "spool": await report_spool(self._spool, config.spool.max_bytes, node.outage_s, disk_room_bytes(config)),
            "sources": report_sources(node.roster.pollers, node.intake),
            "models": self.models.report(),
            "commands": {"done": commands.done, "refused": commands.refused, "unanswered": commands.unanswered},
            "reloads": self._reloading.done,
            "updates": None if self._updates is None else self._updates.report(),
            "process": report_process(),
        }
