"""What the node says of itself: births with every metric, and the death that is its will."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from contract.sparkplug import BD_SEQ, REBIRTH, Metric, Payload, Property, Quality, encode
from contract.topics import MessageType, Topic
from edge.batch import NODE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge.reading import MetricInfo

DESCRIPTION_PROPERTY: Final = "description"
# Sparkplug gives the death's number one byte: 255 is followed by 0.
BD_SEQ_MODULUS: Final = 256


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who the node is, and what its devices (`NODE`: itself) can tell."""

    group: str
    node: str
    metrics: Mapping[str, Sequence[MetricInfo]]

    @property
    def command_topic(self) -> str:
        """Where the node listens for commands and durable marks."""
        return str(Topic(self.group, MessageType.NCMD, self.node))

    @property
    def death_topic(self) -> str:
        """Where its death is told."""
        return str(Topic(self.group, MessageType.NDEATH, self.node))


@dataclass(frozen=True, slots=True)
class Birth:
    """A birth's topic, and its payload still without a sequence number."""

    topic: str
    payload: bytes


def births(identity: NodeIdentity, bd_seq: int, now_ms: int) -> list[Birth]:
    """The node's birth and then one for each device, in the order in which they are sent (seq 0, 1, ...)."""
    controls = (
        Metric(BD_SEQ, DataType.INT64, bd_seq, now_ms),
        Metric(REBIRTH, DataType.BOOLEAN, False, now_ms),  # noqa: FBT003 - the metric's value
    )
    node_topic = str(Topic(identity.group, MessageType.NBIRTH, identity.node))
    node_metrics = (*controls, *_described(identity.metrics.get(NODE, ()), now_ms))
    devices = [device for device in identity.metrics if device != NODE]
    return [
        Birth(node_topic, encode(Payload(now_ms, node_metrics))),
        *(_device_birth(identity, device, now_ms) for device in devices),
    ]


def death(bd_seq: int, now_ms: int) -> bytes:
    """The payload of NDEATH: the number of the birth that it ends, and no sequence number."""
    return encode(Payload(now_ms, (Metric(BD_SEQ, DataType.INT64, bd_seq, now_ms),)))


def _device_birth(identity: NodeIdentity, device: str, now_ms: int) -> Birth:
    topic = Topic(identity.group, MessageType.DBIRTH, identity.node, device)
    return Birth(str(topic), encode(Payload(now_ms, _described(identity.metrics[device], now_ms))))


def _described(metrics: Sequence[MetricInfo], now_ms: int) -> tuple[Metric, ...]:
    return tuple(_described_metric(metric, now_ms) for metric in metrics)


def _described_metric(info: MetricInfo, now_ms: int) -> Metric:
    # A birth describes: it carries no value, so that no old one passes for fresh.
    properties = {}
    if info.description is not None:
        properties[DESCRIPTION_PROPERTY] = Property(DataType.STRING, info.description)
    return Metric(info.name, info.datatype, None, now_ms, quality=Quality.STALE, unit=info.unit, properties=properties)
