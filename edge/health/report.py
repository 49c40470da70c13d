"""What the agent says of itself on its health page: one document, from which /metrics and `status` are made too."""

from __future__ import annotations

import asyncio
import math
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.errors import SpoolError
from edge.health.node_metrics import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from edge.clock import AnchoredClock
    from edge.enrol.renewal import IdentityStatus
    from edge.intake import Intake
    from edge.polling import Poller
    from edge.spool import Spool
    from edge.uplink import UplinkStatus

Report = dict[str, object]

# A spool that hangs must not keep the page from saying so.
_SPOOL_ANSWERS_S: Final = 2.0
_MS_PER_S: Final = 1000


def report_clock(clock: AnchoredClock) -> Report:
    """What the readings' times rest on; `now` in UTC ms."""
    return {
        "now": clock.utc_ms(),
        "wall_offset_ms": clock.wall_offset_ms(),
        "state": clock.state,
        "explanation": clock.explain(),
    }


def report_uplink(status: UplinkStatus) -> Report:
    """How the delivery stands; `away`: what is read now is kept for replay."""
    return {
        "connected": status.connected,
        "away": status.away,
        "unacknowledged": status.unacknowledged,
        "connections": status.connections,
        "error": status.error,
    }


def summary_of(pollers: Mapping[str, Poller], status: UplinkStatus) -> str:
    """How sources and delivery fare, in one line."""
    states = [poller.status.state for poller in pollers.values()]
    uplink = "delivering" if status.connected else f"nothing is delivered: {status.error or 'still connecting'}"
    if status.connected and status.away:
        uplink = "nobody confirms what is sent"
    return f"{states.count('ok')} of {len(states)} sources ok; {uplink}"


def report_identity(status: IdentityStatus) -> Report:
    """Until when the node's certificate is good, and why it is not, or is not renewed; times in UTC ms."""
    told: Report = {"renewals": status.renewals, "failures": status.failures, "error": status.error}
    if (certificate := status.certificate) is None:
        return told | dict.fromkeys(("node", "serial", "not_before", "renewed_from", "not_after"))
    return told | {
        "node": certificate.node,
        "serial": certificate.serial,
        "not_before": _ms(certificate.not_before),
        "renewed_from": _ms(certificate.renewed_from),
        "not_after": _ms(certificate.not_after),
    }


async def report_spool(spool: Spool, max_bytes: int, outage_s: float, disk_room_bytes: int) -> Report:
    """What lies in the spool, as a whole and by lane; times in UTC ms. Empty it holds an outage of `outage_s`.

    `disk_room_bytes` is what it may still take of its disk.
    """
    report: Report = {
        "max_bytes": max_bytes,
        "outage_left_s": None,
        "buffered": spool.buffered,
        "evicted": spool.evicted_batches,
        "dropped": spool.dropped_batches,
        "undated": spool.undated_batches,
        "set_aside": spool.set_aside,
        "error": spool.fault,
    }
    try:
        async with asyncio.timeout(_SPOOL_ANSWERS_S):
            extents = await spool.extents()
    except (SpoolError, TimeoutError) as exc:
        fault = str(exc) or f"the spool's thread has not answered for {_SPOOL_ANSWERS_S:g} s"
        return {**report, "batches": None, "bytes": None, "oldest_at": None, "lanes": {}, "error": fault}
    size_bytes = sum(extent.size_bytes for extent in extents.values())
    room_bytes = max(0, min(max_bytes - size_bytes, disk_room_bytes))
    kept_ms = [extent.oldest_kept_ms for extent in extents.values() if extent.oldest_kept_ms is not None]
    return {
        **report,
        "batches": sum(extent.depth for extent in extents.values()),
        "bytes": size_bytes,
        "outage_left_s": round(outage_s * room_bytes / max_bytes),
        "oldest_at": min(kept_ms, default=None),
        "lanes": {
            lane.name.lower(): {
                "batches": extent.depth,
                "bytes": extent.size_bytes,
                "oldest_at": extent.oldest_kept_ms,
            }
            for lane, extent in extents.items()
        },
    }


def report_sources(pollers: Mapping[str, Poller], intake: Intake) -> Report:
    """How each source fares."""
    return {name: _report_source(poller, intake.suppressed(name)) for name, poller in pollers.items()}


def _report_source(poller: Poller, suppressed: int) -> Report:
    status = poller.status
    return {
        "type": getattr(poller.source, "type", None),
        "interval_s": poller.source.interval_s,
        "state": status.state,
        "readings": status.readings,
        "suppressed": suppressed,
        "polls": status.polls,
        "failures": status.failures,
        "writes": status.writes,
        "restarts": status.restarts,
        "last_sampled_at": status.last_sampled_at_ms,
        "last": {name: _plain(value) for name, value in status.last.items()},
        "details": {name: _plain(value) for name, value in status.details.items()},
        "error": status.error,
        "skipped_ticks": status.skipped_ticks,
        "overdue_s": round(max(0.0, poller.overdue_s), 1),
    }


def report_process() -> Report:
    """What the agent's own process takes; a camera's is its own."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "memory_bytes": resident_bytes(),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "open_files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
    }


def _ms(at: datetime) -> int:
    return int(at.timestamp() * _MS_PER_S)


def _plain(value: object) -> object:
    """JSON has neither NaN nor infinities, and no place for a picture."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return None if isinstance(value, float) and not math.isfinite(value) else value
