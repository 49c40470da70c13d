"""What was read before UTC was known is dated: times since boot become UTC. Pure.

While the clock waits, a time is that since boot, and hence far below any UTC: nothing that says its own time (a
quote with the exchange's) can be mistaken for it, and what can be is shifted alone.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from contract.errors import CodecError
from contract.sparkplug import Quality, decode, encode

if TYPE_CHECKING:
    from contract.delivery import Gap
    from contract.sparkplug import Metric, Property
    from edge.batch import Batch

# 31 years: no machine is up for so long, and no reading so old.
_SINCE_BOOT_BELOW_MS: Final = 1_000_000_000_000


def is_since_boot(at_ms: int) -> bool:
    """Whether a time is one since boot, and not UTC; 0 is what devices say that know no time."""
    return 0 < at_ms < _SINCE_BOOT_BELOW_MS


def to_utc(at_ms: int, booted_ms: int) -> int:
    """A time since boot as UTC in ms; UTC as it is."""
    return at_ms + booted_ms if is_since_boot(at_ms) else at_ms


def in_utc(batch: Batch, booted_ms: int) -> Batch:
    """A batch that was made just now: dated where it began before UTC was known."""
    is_in_part = is_since_boot(batch.from_ms) or is_since_boot(batch.to_ms)
    return dated(batch, booted_ms) if is_in_part and booted_ms else batch


def dated(batch: Batch, booted_ms: int, *, estimated: bool = False) -> Batch:
    """The batch in UTC, given when (UTC ms) the machine was booted.

    Where that is an estimate, its good values are stale. A payload that cannot be read is left as it is, for the
    cloud to set aside.
    """
    from_ms, to_ms = sorted((to_utc(batch.from_ms, booted_ms), to_utc(batch.to_ms, booted_ms)))
    payload = batch.payload
    with contextlib.suppress(CodecError):
        payload = _dated_payload(payload, booted_ms, estimated=estimated)
    return replace(batch, payload=payload, from_ms=from_ms, to_ms=to_ms)


def dated_gap(gap: Gap, booted_ms: int) -> Gap:
    """The gap in UTC."""
    from_ms, to_ms = sorted((to_utc(gap.from_ms, booted_ms), to_utc(gap.to_ms, booted_ms)))
    return replace(gap, from_ms=from_ms, to_ms=to_ms)


def _dated_payload(encoded: bytes, booted_ms: int, *, estimated: bool) -> bytes:
    payload = decode(encoded)
    if payload.rejected:
        raise CodecError(payload.rejected[0].reason)
    metrics = tuple(_dated_metric(metric, booted_ms, estimated=estimated) for metric in payload.metrics)
    return encode(replace(payload, timestamp_ms=to_utc(payload.timestamp_ms, booted_ms), metrics=metrics))


def _dated_metric(metric: Metric, booted_ms: int, *, estimated: bool) -> Metric:
    doubtful = estimated and metric.quality == Quality.GOOD and is_since_boot(metric.timestamp_ms)
    return replace(
        metric,
        timestamp_ms=to_utc(metric.timestamp_ms, booted_ms),
        quality=Quality.STALE if doubtful else metric.quality,
        properties={name: _dated_property(prop, booted_ms) for name, prop in metric.properties.items()},
    )


def _dated_property(prop: Property, booted_ms: int) -> Property:
    if prop.datatype is DataType.DATETIME and isinstance(prop.value, int):
        return replace(prop, value=to_utc(prop.value, booted_ms))
    return prop
