"""What the node measures of itself: its spool and disk, its clock, its processor, and how its sources fare."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract import __version__
from contract.datatypes import DataType
from edge.batch import NODE, batches_of_poll
from edge.clock import ClockState
from edge.errors import SpoolError
from edge.health.machine import processor_celsius
from edge.reading import MetricInfo, Reading
from edge.reporting import Reporter, ReportRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from contract.datatypes import Value
    from edge.clock import AnchoredClock
    from edge.config import AgentConfig
    from edge.intake import Intake
    from edge.lane import Lane
    from edge.polling import Poller
    from edge.sources.base import SourceConfig
    from edge.spool import Extent, Spool

logger = logging.getLogger(__name__)

_MIB: Final = 1 << 20
_TEMPERATURE: Final = MetricInfo("Health/Temperature", DataType.DOUBLE, "°C", "of the processor")
_NODE: Final = (
    MetricInfo("Health/Version", DataType.STRING, None, "of the agent"),
    MetricInfo("Health/Uptime", DataType.DOUBLE, "s", "since the agent was started"),
    MetricInfo("Health/Memory", DataType.DOUBLE, "MiB", "resident memory of the agent's own process"),
    MetricInfo("Health/Clock Synchronised", DataType.BOOLEAN, None, "whether the kernel calls the clock right"),
    MetricInfo("Health/Clock Offset", DataType.DOUBLE, "ms", "by how much the clock is ahead of readings' times"),
    MetricInfo("Health/Disk Free", DataType.INT64, "B", "of the spool's file system"),
    MetricInfo("Health/Disk Size", DataType.INT64, "B", "of the spool's file system"),
    MetricInfo("Health/Spool Limit", DataType.INT64, "B", "what the spool may take on disk"),
    MetricInfo("Health/Spool Batches", DataType.INT64, None, "batches on disk, not yet known to be durable"),
    MetricInfo("Health/Spool Bytes", DataType.INT64, "B", "of their payloads"),
    MetricInfo("Health/Spool Buffered", DataType.INT64, None, "batches in memory, waiting for the disk"),
    MetricInfo("Health/Spool Evicted", DataType.INT64, None, "batches lost for want of room on disk, in this run"),
    MetricInfo("Health/Spool Dropped", DataType.INT64, None, "batches lost while the disk failed, in this run"),
    MetricInfo("Health/Spool Set Aside", DataType.INT64, None, "spoilt spools that wait for a person to look at them"),
)
_SOURCE: Final = (
    MetricInfo("Polls", DataType.INT64, None, "polls in this run, failed ones included"),
    MetricInfo("Failures", DataType.INT64, None, "polls in this run that brought nothing"),
    MetricInfo("Skipped Ticks", DataType.INT64, None, "moments of the schedule that were missed"),
    MetricInfo("Suppressed", DataType.INT64, None, "readings held back in this run, for good"),
)
# What hardly changes is told when it has, and every five minutes; all else each time.
_SELDOM: Final = (
    *(ReportRule(metrics=f"Health/{name}") for name in ("Version", "Clock Synchronised", "Disk Size", "Spool Limit")),
    ReportRule(metrics="Health/Clock Offset", deadband=20),
    ReportRule(metrics="Health/Temperature", deadband=1),
    ReportRule(metrics="Health/Disk Free", deadband_percent=1),
    ReportRule(metrics="Health/*/Line Occupancy", deadband=0.02),
    ReportRule(metrics="Health/*/Quota Left *", deadband_percent=1),
)


def node_metrics(sources: Iterable[SourceConfig]) -> list[MetricInfo]:
    """The node's own metrics, for its birth; a temperature where this machine measures one."""
    of_sources = (
        replace(info, name=f"Health/{source.name}/{info.name}")
        for source in sources
        for info in (*_SOURCE, *source.vitals().values())
    )
    return [*_NODE, *([] if processor_celsius() is None else [_TEMPERATURE]), *of_sources]


class NodeHealth:
    """Measures the node every `health_interval_s`, and puts that into its spool."""

    def __init__(
        self,
        config: AgentConfig,
        clock: AnchoredClock,
        spool: Spool,
        intake: Intake,
        pollers: Callable[[], Mapping[str, Poller]],
    ) -> None:
        self._clock = clock
        self._spool = spool
        self._intake = intake
        self._pollers = pollers
        self._started_s = time.monotonic()
        self.change(config)

    @property
    def uptime_s(self) -> float:
        """Since the agent was started."""
        return time.monotonic() - self._started_s

    def change(self, config: AgentConfig) -> None:
        """From now on the node is this one."""
        self._config = config
        self._metrics = node_metrics(config.sources)
        self._reporter = Reporter(_SELDOM, self._metrics)

    def forget(self) -> None:
        """Births were sent: the next reading of every metric is told."""
        self._reporter.forget()

    async def run(self) -> None:
        """Measures until it is cancelled."""
        while True:
            await asyncio.sleep(self._config.health_interval_s)
            now_ms = self._clock.now_ms()
            try:
                extents = await self._spool.extents()
            except SpoolError as exc:
                logger.debug("no node metrics: %s", exc)
                continue
            for batch in batches_of_poll(NODE, self.news(now_ms, extents), now_ms, now_ms):
                self._spool.put(batch)

    def news(self, now_ms: int, extents: Mapping[Lane, Extent]) -> list[Reading]:
        """A reading of each metric that there is something to tell of; what is not known has none."""
        values = dict(self._measured(extents))
        readings = [
            Reading(info.name, info.datatype, values[info.name], now_ms)
            for info in self._metrics
            if values.get(info.name) is not None
        ]
        told = self._reporter.report(readings)
        # Before a change the last one held back would come an interval late, and count as slow on its way.
        self._reporter.flush()
        return told

    def _measured(self, extents: Mapping[Lane, Extent]) -> Iterator[tuple[str, Value]]:
        clock, spool = self._clock, self._spool
        state = clock.state
        yield "Health/Version", __version__
        yield "Health/Uptime", self.uptime_s
        yield "Health/Memory", resident_bytes() / _MIB
        yield "Health/Temperature", processor_celsius()
        yield "Health/Clock Synchronised", state is ClockState.SYNCHRONISED
        yield "Health/Clock Offset", None if state is ClockState.WAITING else float(clock.wall_offset_ms())
        with suppress(OSError):  # a disk that was taken away is told by the spool itself
            disk = shutil.disk_usage(self._config.state_dir)
            yield "Health/Disk Free", disk.free
            yield "Health/Disk Size", disk.total
        yield "Health/Spool Limit", self._config.spool.max_bytes
        yield "Health/Spool Batches", sum(extent.depth for extent in extents.values())
        yield "Health/Spool Bytes", sum(extent.size_bytes for extent in extents.values())
        yield "Health/Spool Buffered", spool.buffered
        yield "Health/Spool Evicted", spool.evicted_batches
        yield "Health/Spool Dropped", spool.dropped_batches
        yield "Health/Spool Set Aside", spool.set_aside
        for poller in self._pollers().values():
            yield from _measured_source(poller, self._intake.suppressed(poller.source.name))


def resident_bytes() -> int:
    """Resident memory of this process."""
    resident_pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(resident_pages) * os.sysconf("SC_PAGE_SIZE")


def _measured_source(poller: Poller, suppressed: int) -> Iterator[tuple[str, Value]]:
    status, prefix = poller.status, f"Health/{poller.source.name}"
    yield f"{prefix}/Polls", status.polls
    yield f"{prefix}/Failures", status.failures
    yield f"{prefix}/Skipped Ticks", status.skipped_ticks
    yield f"{prefix}/Suppressed", suppressed
    for detail, info in poller.source.vitals().items():
        yield f"{prefix}/{info.name}", status.details.get(detail)
