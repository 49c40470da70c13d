"""The agent: sources polled into the spool, the spool delivered by the uplink, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from contract import __version__
from contract.delivery import Gap
from edge.aside import Aside
from edge.batch import gap_batch
from edge.clock import AnchoredClock
from edge.commands import Commands
from edge.enrol import renewal_of
from edge.errors import SourceError, SpoolError
from edge.estimate import disk_room_bytes, outage_hours
from edge.health.node_metrics import NodeHealth
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
from edge.identity import identity_of
from edge.intake import Intake
from edge.lock import alone_in
from edge.log_desk import LogDesk
from edge.models import Models
from edge.reload import Reloading, take_in
from edge.roster import Roster
from edge.spool import Spool, SpoolLimits
from edge.supervised import supervised
from edge.update.building import updates_of
from edge.update.probe import Condition
from edge.uplink import Uplink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from contract.commands import CommandAnswer
    from contract.datatypes import Value
    from edge.batch import Batch
    from edge.config import AgentConfig
    from edge.log_ring import LogRing
    from edge.polling import Poll
    from edge.reading import MetricInfo, Reading
    from edge.spool import Beginning

logger = logging.getLogger(__name__)

# What a stop waits for polls and writes in flight, however long they may take by their time-outs.
_ENDING_S: Final = 15.0


class Agent:
    """One edge node. `run` works until `stop`, which may be called from a signal handler.

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
        self._config = config
        self._notifier = notifier or Notifier(None)
        self._clock = AnchoredClock(config.clock.wait_s)
        self._stop_asked = asyncio.Event()
        self._reloading = Reloading(reread, self._take_in, self._notifier, self._stop_asked)
        self._outage_s = outage_hours(config) * 3600
        self._spool = self._new_spool()
        self._intake = Intake(self._spool.put, self._declare, self._clock.now_ms)
        self._aside = Aside(self._spool, self._intake, self._clock.now_ms)
        self._births = 0
        self._roster = Roster(config.sources, self._keep, self._intake, self._clock.now_ms, jitter_s=config.jitter_s)
        self._health = NodeHealth(config, self._clock, self._spool, self._intake, lambda: self._roster.pollers)
        self._models = self._new_models()
        self._models.change(config.models)
        self._commands = Commands(self, self._known_utc_ms, config.max_command_age_s)
        identity = identity_of(config, self._models.metrics)
        desk = LogDesk(log, (config.group, config.node), self._say, self._commands.submit)
        self._updates, retained = None, None
        if config_file is not None and config.update is not None:
            self._updates, retained = updates_of(config, config_file, self, self._clock, self._aside.tell_updates)
        self._uplink = Uplink(config.broker, identity, self._spool, self._clock.utc_ms, desk.submit, retained)
        self._renewal = renewal_of(config, self._clock, self._uplink.reconnect)
        self._watchdog = Watchdog(
            lambda: self._roster.pollers, self._spool.extents, self._notifier, config.stuck_after_s
        )

    def _new_spool(self) -> Spool:
        loop, config = asyncio.get_running_loop(), self._config
        kept = config.spool
        return Spool(
            config.state_dir,
            SpoolLimits(kept.max_bytes, kept.buffer_bytes, kept.commit_interval_s, kept.min_free_bytes),
            self._clock.now_ms,
            self._declare,
            lambda: _tell(loop, self._uplink.wake),
            booted_ms=self._clock.booted_ms,
            devices=[*(source.name for source in config.sources), *(model.name for model in config.models)],
        )

    def _new_models(self) -> Models:
        return Models(
            self._config.inference,
            self._config.state_dir,
            self._clock.now_ms,
            intake=self._intake,
            keep=self._keep,
            metrics_of=self.metrics_of,
            births_changed=self._introduce,
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
        with alone_in(self._config.state_dir):
            beginning = await self._spool.start()
            self._clock.not_before(beginning.newest_kept_ms)
            clean = False
            try:
                self._foresee_gaps(beginning)
                await self._work()
                clean = True
            finally:
                await self._spool.close(clean=clean)

    async def _work(self) -> None:
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            if self._config.health is not None:
                await open_health_page(stack, self._config.health.port, self.report)
            await stack.enter_async_context(self._roster.running())
            uplink = group.create_task(supervised(self._uplink.run), name="uplink")
            health = group.create_task(supervised(self._health.run), name="node metrics")
            renewal = group.create_task(supervised(self._renewal.run), name="renewal") if self._renewal else None
            watchdog = group.create_task(supervised(partial(self._watchdog.run, self._summary)), name="watchdog")
            models = group.create_task(supervised(self._models.run), name="models")
            updates = group.create_task(supervised(self._updates.run), name="updates") if self._updates else None
            self._notifier.ready()
            await self._stop_asked.wait()
            logger.info("stopping: polls in flight may end")
            self._notifier.stopping()
            if updates is not None:
                updates.cancel()
                await asyncio.wait([updates])
            self._roster.hurry(_ENDING_S)
            await self._commands.close(_ENDING_S)
            async with self._reloading.lock:
                await self._roster.end()
                models.cancel()
                await asyncio.wait([models])
                self._models.close()
            health.cancel()
            if renewal is not None:
                renewal.cancel()
            await self._drain(uplink)
            watchdog.cancel()

    async def _drain(self, uplink: asyncio.Task[None]) -> None:
        """Delivers what is left while there is time; a spool that fails or hangs holds up no end."""
        with contextlib.suppress(SpoolError, TimeoutError):
            async with asyncio.timeout(_ENDING_S):
                await self._spool.flush()
        self._uplink.drain()
        await asyncio.wait([uplink], timeout=self._config.drain_timeout_s)
        if not uplink.done():
            depth = sum(extent.depth for extent in self._spool.held.values())
            logger.warning("stopping with %d batches in the spool, for the next run to deliver", depth)
            uplink.cancel()

    def _summary(self) -> str:
        return summary_of(self._roster.pollers, self._uplink.status)

    def _keep(self, poll: Poll) -> None:
        if self._births != self._uplink.status.births:
            # Who reads the births knows no value of before.
            self._births = self._uplink.status.births
            self._intake.forget()
            self._health.forget()
            if self._updates is not None:
                self._updates.forget()
        self._intake.keep(poll)
        self._models.take(poll)

    def _foresee_gaps(self, beginning: Beginning) -> None:
        """Notes from when on readings may be missing; the first poll of each source will say until when."""
        reason = "agent stopped" if beginning.stopped_cleanly else "agent killed"
        devices = {*self._roster.pollers, *self._models.metrics}
        known = {name: at_ms for name, at_ms in beginning.last_sampled.items() if name in devices}
        self._intake.foresee({name: Gap(since_ms, since_ms, reason) for name, since_ms in known.items()})

    def _declare(self, device: str, gap: Gap) -> Batch:
        return gap_batch(device, gap, self._clock.now_ms())

    def _known_utc_ms(self) -> int | None:
        return None if self._clock.booted_ms() is None else self._clock.now_ms()

    # What commands are carried out on.

    def metrics_of(self, device: str) -> Sequence[MetricInfo] | None:
        """The metrics of a source, None where there is no such source."""
        poller = self._roster.pollers.get(device)
        return None if poller is None else poller.source.metrics()

    async def write(self, device: str, metric: str, value: Value) -> Reading:
        """Sets a metric and reads it back; raises SourceError or TimeoutError."""
        if (poller := self._roster.pollers.get(device)) is None:
            raise SourceError(f"there is no source {device} any more")
        return await poller.write(metric, value)

    async def reload(self) -> str | None:
        """Takes in the configuration as it now stands in its file; says what of it has to wait for a restart.

        Sources that are unchanged go on undisturbed. Raises EdgeError, and changes nothing, where it is wrong.
        """
        return await self._reloading.now()

    def answer(self, device: str, answer: CommandAnswer, read_back: Reading | None) -> None:
        """Sends an answer as an alarm, and with it the reading that a write brought."""
        self._aside.answer(device, answer, read_back)

    # What updates are carried out on, beside `reload`.

    @property
    def config(self) -> AgentConfig:
        """What it runs by."""
        return self._config

    @property
    def models(self) -> Models:
        """The models that it serves."""
        return self._models

    @property
    def condition(self) -> Condition:
        """How it fares."""
        status = self._uplink.status
        states = {name: poller.status.state for name, poller in self._roster.pollers.items()}
        return Condition(status.connected and not status.away, status.marks, states, status.error)

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
        free_bytes = disk_room_bytes(self._config)
        return free_bytes - max(0, self._config.spool.max_bytes - held)

    def _say(self, topic: str, payload: bytes) -> None:
        self._uplink.say(topic, payload)

    async def _take_in(self, new: AgentConfig) -> str | None:
        before = identity_of(self._config, self._models.metrics)
        self._config, fixed = take_in(self._config, new)
        # Before the first reading of a new source.
        if (now := identity_of(self._config, self._models.metrics)) != before:
            self._uplink.introduce(now)
        self._health.change(self._config)
        await self._roster.change(self._config.sources)
        self._models.change(self._config.models)
        if identity_of(self._config, self._models.metrics) != now:
            self._introduce()
        self._outage_s = outage_hours(self._config) * 3600
        left = f"restart needed for: {', '.join(fixed)}" if fixed else None
        logger.info(
            "the configuration is read again: %d sources; %s", len(self._config.sources), left or "all taken in"
        )
        return left

    def _introduce(self) -> None:
        self._uplink.introduce(identity_of(self._config, self._models.metrics))

    async def _report_spool(self) -> dict[str, object]:
        room_bytes = disk_room_bytes(self._config)
        return await report_spool(self._spool, self._config.spool.max_bytes, self._outage_s, room_bytes)

    async def report(self) -> dict[str, object]:
        """What the health page shows."""
        commands = self._commands
        return {
            "node": f"{self._config.group}/{self._config.node}",
            "version": __version__,
            "uptime_s": round(self._health.uptime_s, 1),
            "stuck": list(self._watchdog.stuck),
            "clock": report_clock(self._clock),
            "uplink": report_uplink(self._uplink.status),
            "identity": None if self._renewal is None else report_identity(self._renewal.status),
            "spool": await self._report_spool(),
            "sources": report_sources(self._roster.pollers, self._intake),
            "models": self._models.report(),
            "commands": {"done": commands.done, "refused": commands.refused, "unanswered": commands.unanswered},
            "reloads": self._reloading.done,
            "updates": None if self._updates is None else self._updates.report(),
            "process": report_process(),
        }


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the event loop has ended before the spool's thread
        loop.call_soon_threadsafe(what)
