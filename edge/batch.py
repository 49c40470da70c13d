"""Readings become batches: encoded Sparkplug DATA payloads, one topic each, still without a sequence number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.errors import CodecError
from contract.plain import PLAIN, PlainMetric, encode_plain
from contract.sparkplug import Metric, Payload, Quality, encode
from contract.topics import MessageType, Topic
from edge.lane import Lane
from edge.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from contract.delivery import Gap
    from edge.reading import MetricInfo

# The node itself, where a device is named.
NODE: Final = ""
# With names of ordinary length some 50 kB, far below what brokers and bridge take.
MAX_METRICS: Final = 1000
_GOOD: Final = Quality.GOOD
_NUMBERS: Final = (int, float)


@dataclass(frozen=True, slots=True)
class Batch:
    """One encoded DATA payload for one device, and the span of sampled_at (UTC ms) that is lost with it.

    `from_ms` reaches back to the start of the poll, so that a span that begins there misses nothing.
    """

    device: str
    payload: bytes
    from_ms: int
    to_ms: int
    lane: Lane = Lane.LIVE


def data_topic(group: str, node: str, device: str) -> str:
    """The topic of a device's DATA, or of the node's own."""
    if device == NODE:
        return str(Topic(group, MessageType.NDATA, node))
    return str(Topic(group, MessageType.DDATA, node, device))


def batches_of_poll(
    device: str, readings: Sequence[Reading], started_ms: int, now_ms: int, lane: Lane = Lane.LIVE
) -> list[Batch]:
    """The batches of one poll: one, unless it has more than `MAX_METRICS` readings; none for no readings.

    An image is a batch of its own: together they would be more than brokers and bridge take.
    """
    most = 1 if lane is Lane.IMAGE else MAX_METRICS
    return [_batch_of(device, readings[i : i + most], started_ms, now_ms, lane) for i in range(0, len(readings), most)]


def gap_batch(device: str, gap: Gap, now_ms: int) -> Batch:
    """The batch by which a gap is declared; where it is lost in turn, the gap is what is declared again."""
    payload = encode(Payload(now_ms, (gap.to_metric(now_ms),)))
    return Batch(device, payload, gap.from_ms, gap.to_ms)


def failed_poll(metrics: Iterable[MetricInfo], now_ms: int) -> list[Reading]:
    """What stands for a poll that brought nothing: each metric without value, of bad quality, as of now.

    But for one that tells of the loss itself (`when_lost`); and no image is missing where none was due.
    """
    return [_when_lost(metric, now_ms) for metric in metrics if metric.lane is not Lane.IMAGE]


def _when_lost(metric: MetricInfo, now_ms: int) -> Reading:
    quality = Quality.BAD if metric.when_lost is None else Quality.GOOD
    return Reading(metric.name, metric.datatype, metric.when_lost, now_ms, quality)


def _batch_of(device: str, readings: Sequence[Reading], started_ms: int, now_ms: int, lane: Lane) -> Batch:
    sampled = {reading.sampled_at_ms for reading in readings}
    payload = _encode_all(readings, now_ms)
    return Batch(device, payload, min(*sampled, started_ms), max(sampled), lane)


def _encode_all(readings: Sequence[Reading], now_ms: int) -> bytes:
    plain: list[PlainMetric] = []
    others: list[Reading] = []
    for reading in readings:
        name, datatype, value, sampled_at_ms, quality, properties = reading
        is_plain = quality is _GOOD and datatype in PLAIN and not properties
        if is_plain and isinstance(value, _NUMBERS) and value - value == 0:  # as only that of a finite number is
            plain.append((name, datatype, value, sampled_at_ms))
        else:
            others.append(reading)
    try:
        return encode_plain(now_ms, plain) + _encode_others(others, now_ms)
    except CodecError:
        # One value that its type cannot hold must not cost the whole poll.
        metrics = [_metric(reading) for reading in readings]
        return encode(Payload(now_ms, tuple(metric if _fits(metric) else _nulled(metric) for metric in metrics)))


def _encode_others(readings: Sequence[Reading], now_ms: int) -> bytes:
    return encode(Payload(now_ms, tuple(_metric(reading) for reading in readings))) if readings else b""


def _metric(reading: Reading) -> Metric:
    metric = Metric(
        reading.metric,
        reading.datatype,
        reading.value,
        reading.sampled_at_ms,
        quality=reading.quality,
        properties=reading.properties or {},
    )
    if isinstance(reading.value, float) and not math.isfinite(reading.value):
        return _nulled(metric)
    return metric


def _nulled(metric: Metric) -> Metric:
    return Metric(metric.name, metric.datatype, None, metric.timestamp_ms, quality=Quality.BAD)


def _fits(metric: Metric) -> bool:
    try:
        encode(Payload(metric.timestamp_ms, (metric,)))
    except CodecError:
        return False
    return True
