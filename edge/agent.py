"""The agent: sources polled into the spool, the spool delivered by the uplink, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import math
import time
from typing import TYPE_CHECKING, Final

from contract import __version__
from contract.delivery import Gap
from edge.batch import NODE, batches_of_poll, gap_batch
from edge.clock import AnchoredClock
from edge.errors import EdgeError, SpoolError
from edge.health import health_page
from edge.node_metrics import measure, node_metrics
from edge.polling import Poller
from edge.spool import Spool, SpoolLimits
from edge.uplink import NodeIdentity, Uplink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from edge.batch import Batch
    from edge.config import AgentConfig
    from edge.polling import Poll, SourceStatus
    from edge.spool import Beginning

logger = logging.getLogger(__name__)

_RESTART_S: Final = 1.0


class Agent:
    """One edge node. `run` works until `stop`, which may be called from a signal handler."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._clock = AnchoredClock()
        self._started_s = time.monotonic()
        self._stop_asked = asyncio.Event()
        self._gaps: dict[str, Gap] = {}
        self._pollers = {
            source.name: Poller(source, self._keep, self._clock.now_ms, jitter_s=config.jitter_s)
            for source in config.sources
        }
        loop = asyncio.get_running_loop()
        limits = SpoolLimits(config.spool.max_bytes, config.spool.buffer_bytes, config.spool.commit_interval_s)
        self._spool = Spool(
            config.state_dir,
            limits,
            self._clock.now_ms,
            self._declare,
            lambda: _tell(loop, self._uplink.wake),
        )
        self._uplink = Uplink(config.mqtt, _identity(config), self._spool, self._clock.now_ms)

    def stop(self) -> None:
        """Asks for an orderly end."""
        self._stop_asked.set()

    async def run(self) -> None:
        """Works until it is stopped and what was polled is delivered, or `drain_timeout_s` is over.

        Cancelled, it ends at once; what was polled is spooled all the same. Raises EdgeError when it cannot begin.
        """
        with _alone_in(self._config.state_dir):
            beginning = await self._spool.start()
            clean = False
            try:
                await self._foresee_gaps(beginning)
                await self._work()
                clean = True
            finally:
                await self._spool.close(clean=clean)

    async def _work(self) -> None:
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            await self._serve_health(stack)
            uplink = group.create_task(self._supervised(self._uplink.run), name="uplink")
            polls = [group.create_task(poller.run(), name=f"poll {name}") for name, poller in self._pollers.items()]
            health = group.create_task(self._supervised(self._measure_node), name="node metrics")
            await self._stop_asked.wait()
            logger.info("stopping: polls in flight may end")
            for poller in self._pollers.values():
                poller.stop()
            await asyncio.wait(polls)
            health.cancel()
            await self._drain(uplink)

    async def _drain(self, uplink: asyncio.Task[None]) -> None:
        await self._spool.flush()
        self._uplink.drain()
        await asyncio.wait([uplink], timeout=self._config.drain_timeout_s)
        if not uplink.done():
            depth = sum(extent.depth for extent in (await self._spool.extents()).values())
            logger.warning("stopping with %d batches in the spool, for the next run to deliver", depth)
            uplink.cancel()

    async def _supervised(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs a part of the agent, again if it fails in a way that nobody foresaw: collecting must go on."""
        while True:
            try:
                return await work()
            except Exception:
                logger.exception("unexpected, please report; going on")
                await asyncio.sleep(_RESTART_S)

    async def _serve_health(self, stack: contextlib.AsyncExitStack) -> None:
        if self._config.health is None:
            return
        try:
            port = await stack.enter_async_context(health_page(self._config.health.port, self.report))
            logger.info("health page at http://127.0.0.1:%d/healthz", port)
        except OSError as exc:
            logger.error("no health page: %s", exc)  # noqa: TRY400 - an operator has no use for the traceback

    async def _measure_node(self) -> None:
        while True:
            await asyncio.sleep(self._config.health_interval_s)
            now_ms = self._clock.now_ms()
            try:
                extents = await self._spool.extents()
            except SpoolError as exc:
                logger.debug("no node metrics: %s", exc)
                continue
            uptime_s = time.monotonic() - self._started_s
            readings = measure(now_ms, uptime_s, self._spool, extents, self._statuses())
            for batch in batches_of_poll(NODE, readings, now_ms, now_ms):
                self._spool.put(batch)

    def _keep(self, poll: Poll) -> None:
        """Every reading goes from its poll into the spool in this one step, so that no stop can lose it between."""
        if not poll.readings:
            return
        if (gap := self._gaps.get(poll.source)) is not None:
            to_ms = max(reading.sampled_at_ms for reading in poll.readings)
            # Not before its beginning: after a boot the clock may be behind until the network sets it.
            if to_ms > gap.from_ms:
                del self._gaps[poll.source]
                self._spool.put(self._declare(poll.source, Gap(gap.from_ms, to_ms, gap.reason)))
        for batch in batches_of_poll(poll.source, poll.readings, poll.started_ms, poll.finished_ms):
            self._spool.put(batch)

    async def _foresee_gaps(self, beginning: Beginning) -> None:
        """Notes from when on readings may be missing; the first poll of each source will say until when."""
        reason = "agent stopped" if beginning.stopped_cleanly else "agent killed"
        self._gaps = {
            name: Gap(since_ms, since_ms, reason)
            for name, since_ms in beginning.last_sampled.items()
            if name in self._pollers
        }
        if (spoilt_ms := beginning.spoilt_since_ms) is not None:
            # At once, and on the disk before anything else: nothing but this run knows of it.
            now_ms = max(spoilt_ms, self._clock.now_ms())
            for name in self._pollers:
                self._spool.put(self._declare(name, Gap(spoilt_ms, now_ms, "spool corrupt")))
            await self._spool.flush()

    def _declare(self, device: str, gap: Gap) -> Batch:
        return gap_batch(device, gap, self._clock.now_ms())

    def _statuses(self) -> dict[str, SourceStatus]:
        return {name: poller.status for name, poller in self._pollers.items()}

    async def report(self) -> dict[str, object]:
        """What the health page shows."""
        uplink = self._uplink.status
        return {
            "node": f"{self._config.group}/{self._config.node}",
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "clock": {"wall_offset_ms": self._clock.wall_offset_ms()},
            "uplink": {"connected": uplink.connected, "unacknowledged": uplink.unacknowledged, "error": uplink.error},
            "spool": await self._report_spool(),
            "sources": {name: _report_source(status) for name, status in self._statuses().items()},
        }

    async def _report_spool(self) -> dict[str, object]:
        lost = {"evicted": self._spool.evicted_batches, "dropped": self._spool.dropped_batches}
        try:
            extents = (await self._spool.extents()).values()
        except SpoolError as exc:
            return {"batches": None, "bytes": None, "oldest_at": None, "error": str(exc), **lost}
        buffered = self._spool.buffered
        return {
            "batches": sum(extent.depth for extent in extents),
            "bytes": sum(extent.size_bytes for extent in extents),
            "oldest_at": min((e.oldest_kept_ms for e in extents if e.oldest_kept_ms is not None), default=None),
            "buffered": buffered,
            **lost,
        }


def _report_source(status: SourceStatus) -> dict[str, object]:
    return {
        "state": status.state,
        "readings": status.readings,
        "polls": status.polls,
        "failures": status.failures,
        "last_sampled_at": status.last_sampled_at_ms,
        # JSON has neither NaN nor infinities.
        "last": {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in status.last.items()
        },
        "error": status.error,
        "skipped_ticks": status.skipped_ticks,
    }


def _identity(config: AgentConfig) -> NodeIdentity:
    names = [source.name for source in config.sources]
    devices = {source.name: source.metrics() for source in config.sources}
    return NodeIdentity(config.group, config.node, {NODE: node_metrics(names), **devices})


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the event loop has ended before the spool's thread
        loop.call_soon_threadsafe(what)


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keeps a second agent out of a state directory: two would deliver each other's batches."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("w", encoding="ascii")
    except OSError as exc:
        raise EdgeError(f"state_dir {directory} cannot be used: {exc.strerror}") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EdgeError(f"state_dir {directory} is used by another agent: give each its own") from None
        yield
