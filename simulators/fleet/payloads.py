"""What a node says: births, death, samples and gaps, as bytes without a sequence number. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract.datatypes import DataType
from contract.plain import encode_plain
from contract.sparkplug import BD_SEQ, REBIRTH, SEQ_MODULUS, Metric, Payload, Quality, encode
from contract.topics import MessageType, Topic
from simulators.fleet.lane import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contract.delivery import Gap
    from simulators.fleet.signals import Signal


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is, and what its device measures."""

    group: str
    node: str
    device: str
    signals: tuple[Signal, ...]

    def topic(self, kind: MessageType) -> str:
        """Where it says something of this kind."""
        return str(Topic(self.group, kind, self.node, self.device if kind.of_device else None))


class Seq:
    """The number of a node's messages: 0 to 255 and round again."""

    def __init__(self) -> None:
        self._next = 0

    def restart(self) -> None:
        """The next message is the node's birth."""
        self._next = 0

    def next(self) -> int:
        """The next message's number."""
        seq, self._next = self._next, (self._next + 1) % SEQ_MODULUS
        return seq


def node_birth(bd_seq: int, now_ms: int) -> bytes:
    """NBIRTH."""
    death_number = Metric(BD_SEQ, DataType.INT64, bd_seq, now_ms)
    return encode(Payload(now_ms, (death_number, Metric(REBIRTH, DataType.BOOLEAN, value=False, timestamp_ms=now_ms))))


def device_birth(signals: Sequence[Signal], now_ms: int) -> bytes:
    """DBIRTH, which describes: it carries no values."""
    metrics = (Metric(s.name, s.datatype, None, now_ms, quality=Quality.STALE, unit=s.unit) for s in signals)
    return encode(Payload(now_ms, tuple(metrics)))


def death(bd_seq: int, now_ms: int) -> bytes:
    """NDEATH, the broker's will."""
    return encode(Payload(now_ms, (Metric(BD_SEQ, DataType.INT64, bd_seq, now_ms),)))


def sample_batch(signals: Sequence[Signal], values: Mapping[str, float], at_ms: int) -> Batch:
    """DDATA of one sample."""
    plain = ((signal.name, signal.datatype, values[signal.name], at_ms) for signal in signals)
    return Batch(encode_plain(at_ms, plain), at_ms, at_ms)


def gap_batch(gap: Gap, now_ms: int) -> Batch:
    """DDATA by which a gap is declared; where it is lost in turn, the gap is what is declared again."""
    return Batch(encode(Payload(now_ms, (gap.to_metric(now_ms),))), gap.from_ms, gap.to_ms)
