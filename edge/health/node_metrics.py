"""What the node measures of itself: its spool, its memory, and how its sources fare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from edge.reading import MetricInfo, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge.lane import Lane
    from edge.polling import SourceStatus
    from edge.spool import Extent, Spool

_MIB: Final = 1 << 20
_NODE: Final = (
    MetricInfo("Health/Uptime", DataType.DOUBLE, "s", "since the agent was started"),
    MetricInfo("Health/Memory", DataType.DOUBLE, "MiB", "resident memory of the agent's own process"),
    MetricInfo("Health/Spool Batches", DataType.INT64, None, "batches on disk, not yet known to be durable"),
    MetricInfo("Health/Spool Bytes", DataType.INT64, "B", "of their payloads"),
    MetricInfo("Health/Spool Buffered", DataType.INT64, None, "batches in memory, waiting for the disk"),
    MetricInfo("Health/Spool Evicted", DataType.INT64, None, "batches lost for want of room on disk, in this run"),
    MetricInfo("Health/Spool Dropped", DataType.INT64, None, "batches lost while the disk failed, in this run"),
    MetricInfo("Health/Spool Set Aside", DataType.INT64, None, "spoilt spools that wait for a person to look at them"),
)


def node_metrics(sources: Sequence[str]) -> list[MetricInfo]:
    """The node's own metrics, for its birth."""
    return [*_NODE, *(metric for source in sources for metric in _of_source(source))]


def measure(
    now_ms: int,
    uptime_s: float,
    spool: Spool,
    extents: Mapping[Lane, Extent],
    sources: Mapping[str, tuple[SourceStatus, int]],
) -> list[Reading]:
    """A reading of each of the node's own metrics; of a source, its status and how many readings were held back."""
    values: list[float] = [
        uptime_s,
        resident_bytes() / _MIB,
        sum(extent.depth for extent in extents.values()),
        sum(extent.size_bytes for extent in extents.values()),
        spool.buffered,
        spool.evicted_batches,
        spool.dropped_batches,
        spool.set_aside,
    ]
    for status, suppressed in sources.values():
        values += [status.polls, status.failures, status.skipped_ticks, suppressed]
    metrics = node_metrics(list(sources))
    return [Reading(metric.name, metric.datatype, value, now_ms) for metric, value in zip(metrics, values, strict=True)]


def resident_bytes() -> int:
    """Resident memory of this process."""
    resident_pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(resident_pages) * os.sysconf("SC_PAGE_SIZE")


def _of_source(source: str) -> tuple[MetricInfo, ...]:
    return (
        MetricInfo(f"Health/{source}/Polls", DataType.INT64, None, "polls in this run, failed ones included"),
        MetricInfo(f"Health/{source}/Failures", DataType.INT64, None, "polls in this run that brought nothing"),
        MetricInfo(f"Health/{source}/Skipped Ticks", DataType.INT64, None, "moments of the schedule that were missed"),
        MetricInfo(f"Health/{source}/Suppressed", DataType.INT64, None, "readings held back in this run, for good"),
    )
