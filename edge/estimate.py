"""What a configuration will cost: bytes on the line and on the disk, by encoding a poll as it may come."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.datatypes import ARRAYS, BLOBS, INTEGERS, TEXTS, DataType
from edge.batch import NODE, batches_of_poll
from edge.health.node_metrics import node_metrics
from edge.lane import Lane
from edge.models.foreseen import foreseen
from edge.models.package import stride_ms
from edge.models.telling import metrics_of
from edge.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.datatypes import Value
    from edge.config import AgentConfig
    from edge.reading import MetricInfo

# A PUBLISH of MQTT 5 beside its payload: topic, stamp, lengths; and what comes back for it.
_ENVELOPE_BYTES: Final = 150
# A row of the spool beside its payload, and what of its pages stays empty: batches of 60 B to 30 kB take 45 B to 770 B
# more than their payload.
_ROW_BYTES: Final = 60
_PAGES: Final = 1.1
_SAMPLED_AT_MS: Final = 1_800_000_000_000
_S_PER_DAY: Final = 86_400
# As the spool has it: no more than a twentieth of a small disk is left free.
_FREE_SHARE: Final = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """What one device costs: bytes of a poll, and of a day of polls that all work and of which nothing is held back."""

    device: str
    interval_s: float
    metrics: int
    poll_bytes: int
    line_bytes_per_day: float
    disk_bytes_per_day: float


def cost_of(device: str, interval_s: float, metrics: Sequence[MetricInfo]) -> Cost:
    """The cost of polling these metrics; images come when something happens, and are not counted."""
    readings: dict[Lane, list[Reading]] = {}
    for metric in metrics:
        if metric.lane is not Lane.IMAGE:
            value = _sample(metric.datatype)
            readings.setdefault(metric.lane, []).append(Reading(metric.name, metric.datatype, value, _SAMPLED_AT_MS))
    batches = [
        batch
        for lane, of_lane in readings.items()
        for batch in batches_of_poll(device, of_lane, _SAMPLED_AT_MS, _SAMPLED_AT_MS, lane)
    ]
    polls = _S_PER_DAY / interval_s
    poll_bytes = sum(len(batch.payload) for batch in batches)
    return Cost(
        device,
        interval_s,
        len(metrics),
        poll_bytes,
        polls * (poll_bytes + len(batches) * _ENVELOPE_BYTES),
        polls * (poll_bytes + len(batches) * _ROW_BYTES) * _PAGES,
    )


def costs(config: AgentConfig) -> list[Cost]:
    """The cost of each source, of each model as it is now, and of the node's own metrics."""
    return [
        *(cost_of(source.name, source.interval_s, source.metrics()) for source in config.sources),
        *(
            cost_of(model.name, stride_ms(manifest, model) / 1000, metrics_of(manifest))
            for model, manifest in foreseen(config)
        ),
        cost_of(NODE, config.health_interval_s, node_metrics(config.sources)),
    ]


def outage_hours(config: AgentConfig) -> float:
    """How long nothing may be delivered before the spool has to evict, from empty."""
    per_day = sum(cost.disk_bytes_per_day for cost in costs(config))
    return config.spool.max_bytes / per_day * 24 if per_day else math.inf


def disk_room_bytes(config: AgentConfig) -> int:
    """What the spool may still take of its disk, of which a part is left to others."""
    path = config.state_dir.absolute()
    while path != path.parent and not os.access(path, os.F_OK):  # it is made later, or none of our business
        path = path.parent
    disk = shutil.disk_usage(path)
    return max(0, disk.free - min(config.spool.min_free_bytes, disk.total // _FREE_SHARE))


def _sample(datatype: DataType) -> Value:
    """A value of usual size."""
    if datatype is DataType.BOOLEAN:
        return True
    if datatype in INTEGERS:
        return min(INTEGERS[datatype].high, 10_000)
    if datatype in TEXTS:
        return "0123456789"
    if datatype in BLOBS | ARRAYS:
        return None
    return 1234.5
