"""A node as others' misbehave: plain Sparkplug at QoS 0, its DATA by aliases, one of which no birth has told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract import sparkplug_b_pb2 as pb
from contract.datatypes import DataType
from contract.topics import MessageType
from simulators.fleet.node import Node
from simulators.fleet.payloads import node_birth
from simulators.fleet.signals import values
from simulators.fleet.timeline import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contract.delivery import DurableMark
    from simulators.fleet.link import Link
    from simulators.fleet.signals import Signal

_LONGEST_IDLE_S: Final = 5.0
# Every so many samples there is one metric more, by an alias that stands for nothing.
_UNKNOWN_EVERY: Final = 20


class ForeignNode(Node):
    """Keeps nothing, so what it samples without a line is not even noted; what it sends is promised by nobody."""

    depth = 0

    def take_sample(self, number: int) -> None:
        """Send a sample, if anybody may hear it."""
        link = self.link
        if link is None or not self.is_born or link.lost.done():
            return
        found, at_ms = values(self.identity.signals, number), self.now_ms()
        self.world.note(self.member.name, found, at_ms, promised=False)
        self.world.counts.samples += 1
        self.world.counts.sent += 1
        payload = by_alias(self.identity.signals, found, at_ms, with_unknown=number % _UNKNOWN_EVERY == 0)
        self.publish(link, MessageType.DDATA, payload, qos=0)

    def take_mark(self, mark: DurableMark) -> None:
        """It has nothing that could be durable."""

    async def converse(self, link: Link) -> None:
        """Births, now and whenever they are asked for."""
        await self.subscribe(link)
        self.is_birth_wanted = True
        while not link.lost.done() and self.state is State.UP and not self.is_done:
            self.news.clear()
            if self.is_birth_wanted:
                self._give_birth(link)
            await self.pause(_LONGEST_IDLE_S)

    def _give_birth(self, link: Link) -> None:
        self.is_birth_wanted, self.is_born = False, True
        self.seq.restart()
        now_ms = self.now_ms()
        self.publish(link, MessageType.NBIRTH, node_birth(self.bd_seq, now_ms), qos=0)
        self.publish(link, MessageType.DBIRTH, birth_of_aliases(self.identity.signals, now_ms), qos=0)
        self.world.counts.births += 1


def birth_of_aliases(signals: Sequence[Signal], now_ms: int) -> bytes:
    """DBIRTH: an alias for each metric."""
    metrics = [
        pb.Metric(name=signal.name, alias=alias, timestamp=now_ms, datatype=signal.datatype, is_null=True)
        for alias, signal in enumerate(signals)
    ]
    return pb.Payload(timestamp=now_ms, metrics=metrics).SerializeToString()


def by_alias(signals: Sequence[Signal], found: Mapping[str, float], at_ms: int, *, with_unknown: bool) -> bytes:
    """DDATA without names and data types."""
    metrics = [_by_alias(alias, signal, found[signal.name], at_ms) for alias, signal in enumerate(signals)]
    if with_unknown:
        metrics.append(pb.Metric(alias=len(signals), timestamp=at_ms, double_value=0.0))
    return pb.Payload(timestamp=at_ms, metrics=metrics).SerializeToString()


def _by_alias(alias: int, signal: Signal, value: float, at_ms: int) -> pb.Metric:
    match signal.datatype:
        case DataType.BOOLEAN:
            return pb.Metric(alias=alias, timestamp=at_ms, boolean_value=bool(value))
        case DataType.INT64:
            return pb.Metric(alias=alias, timestamp=at_ms, long_value=int(value))
        case _:
            return pb.Metric(alias=alias, timestamp=at_ms, double_value=value)
