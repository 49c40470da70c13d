"""What the node says of itself: births with every metric, and the death that is its will."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.commands import ANSWER, NODE_COMMANDS
from contract.datatypes import DataType
from contract.delivery import GAP
from contract.sparkplug import BD_SEQ, SEQ_MODULUS, Metric, Payload, Property, Quality, encode
from contract.topics import NAMESPACE, MessageType, Topic
from edge.batch import NODE
from edge.reading import MetricInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DESCRIPTION_PROPERTY: Final = "description"
# Sparkplug gives the death's number one byte: 255 is followed by 0.
BD_SEQ_MODULUS: Final = 256
# What any device, and the node, may tell beside its own metrics; Sparkplug has every metric in the birth.
_OCCASIONAL: Final = (
    MetricInfo(GAP, DataType.STRING, None, "readings that may be missing, and why"),
    MetricInfo(ANSWER, DataType.STRING, None, "what became of a command"),
)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who the node is, and what its devices (`NODE`: itself) can tell."""

    group: str
    node: str
    metrics: Mapping[str, Sequence[MetricInfo]]

    @property
    def devices(self) -> list[str]:
        """The devices, without the node itself."""
        return [device for device in self.metrics if device != NODE]

    @property
    def command_topic(self) -> str:
        """Where the node listens for commands and durable marks."""
        return str(Topic(self.group, MessageType.NCMD, self.node))

    @property
    def device_command_filter(self) -> str:
        """Where it listens for commands to any of its devices."""
        return f"{NAMESPACE}/{self.group}/{MessageType.DCMD}/{self.node}/+"

    @property
    def death_topic(self) -> str:
        """Where its death is told."""
        return str(Topic(self.group, MessageType.NDEATH, self.node))


@dataclass(slots=True)
class Seq:
    """The number of a node's messages: 0 to 255 and round again, from 0 at each of its births."""

    _next: int = 0

    def restart(self) -> None:
        """The next message is the node's birth."""
        self._next = 0

    def next(self) -> int:
        """The next message's number."""
        seq = self._next
        self._next = (seq + 1) % SEQ_MODULUS
        return seq


@dataclass(frozen=True, slots=True)
class Birth:
    """A birth's (or a device's death's) topic, and its payload still without a sequence number."""

    topic: str
    payload: bytes


def births(identity: NodeIdentity, bd_seq: int, now_ms: int, *, complete: bool = False) -> list[Birth]:
    """The node's birth and then one for each device, in the order in which they are sent (seq 0, 1, ...).

    `complete`: with what each may tell beside its own metrics, as Sparkplug has it; our own stream needs no telling.
    """
    controls = (
        Metric(BD_SEQ, DataType.INT64, bd_seq, now_ms),
        *(Metric(command, DataType.BOOLEAN, value=False, timestamp_ms=now_ms) for command in NODE_COMMANDS),
    )
    also = _described(_OCCASIONAL, now_ms) if complete else ()
    node_topic = str(Topic(identity.group, MessageType.NBIRTH, identity.node))
    node_metrics = (*controls, *_described(identity.metrics.get(NODE, ()), now_ms), *also)
    return [
        Birth(node_topic, encode(Payload(now_ms, node_metrics))),
        *(_device_birth(identity, device, now_ms, also) for device in identity.devices),
    ]


def device_death(identity: NodeIdentity, device: str, now_ms: int) -> Birth:
    """What is said of a device that the node no longer has."""
    topic = Topic(identity.group, MessageType.DDEATH, identity.node, device)
    return Birth(str(topic), encode(Payload(now_ms, ())))


def death(bd_seq: int, now_ms: int) -> bytes:
    """The payload of NDEATH: the number of the birth that it ends, and no sequence number."""
    return encode(Payload(now_ms, (Metric(BD_SEQ, DataType.INT64, bd_seq, now_ms),)))


def _device_birth(identity: NodeIdentity, device: str, now_ms: int, also: tuple[Metric, ...]) -> Birth:
    topic = Topic(identity.group, MessageType.DBIRTH, identity.node, device)
    metrics = (*_described(identity.metrics[device], now_ms), *also)
    return Birth(str(topic), encode(Payload(now_ms, metrics)))


def _described(metrics: Sequence[MetricInfo], now_ms: int) -> tuple[Metric, ...]:
    return tuple(_described_metric(metric, now_ms) for metric in metrics)


def _described_metric(info: MetricInfo, now_ms: int) -> Metric:
    # A birth describes: it carries no value, so that no old one passes for fresh.
    properties = {}
    if info.description is not None:
        properties[DESCRIPTION_PROPERTY] = Property(DataType.STRING, info.description)
    return Metric(info.name, info.datatype, None, now_ms, quality=Quality.STALE, unit=info.unit, properties=properties)
