"""A message of a foreign node on its way through the bridge, and how it is written out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bridge.outbox import Shipment
from bridge.triage import set_aside
from contract.aliases import WrittenOut, parse, write_out
from contract.errors import CodecError

if TYPE_CHECKING:
    from bridge.config import LimitsConfig
    from bridge.triage import Letter
    from contract import sparkplug_b_pb2 as pb
    from contract.aliases import Names

# What a held message takes in memory beside its payload.
_HELD_BYTES: Final = 2048
# A metric without its name has 8 bytes or so: with it, it is seldom twenty times as long. Past this it is a bomb.
_MAX_GROWTH: Final = 32
_ALWAYS_ALLOWED_BYTES: Final = 64 * 1024
_SHOWN_UNKNOWN: Final = 5
HELD_COPY: Final = "a copy: it is held for what explains it, and goes on afterwards"


@dataclass(slots=True, eq=False)
class Parcel:
    """A shipment that is not shipped yet; `payload` is what it holds, kept only while it is being taken in."""

    shipment: Shipment
    device: str
    payload: pb.Payload | None
    until: float = math.inf  # then holding it ends, in monotonic seconds
    is_tried: bool = False
    tried_with: Names | None = None
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.size_bytes = len(self.shipment.letter.value) + _HELD_BYTES

    def hold(self, names: Names | None) -> None:
        """It cannot be read by these names."""
        self.payload, self.is_tried, self.tried_with = None, True, names

    def take_slot(self) -> Shipment:
        """A dead letter, a copy of it, that has its place in the order of PUBACKs from now on.

        It would keep all PUBACKs behind it back; and acknowledged without a copy in Kafka it could be lost.
        """
        held = self.shipment
        copy = Shipment(set_aside(held.letter, HELD_COPY), held.size_bytes, held.slot)
        held.slot = None
        return copy

    def write_out(self, names: Names | None, limits: LimitsConfig) -> WrittenOut | str | None:
        """It, written out; or why it cannot be. None for what is no payload: whoever decodes it will say so."""
        encoded = self.shipment.letter.value
        payload, self.payload = self.payload or opened(encoded, limits), None
        if payload is None:
            return None
        if len(payload.metrics) > limits.max_metrics_per_node:
            return f"more than the {limits.max_metrics_per_node} metrics that are allowed"
        try:
            return write_out(encoded, payload, names, min(limits.max_payload_bytes, _growth_bound(len(encoded))))
        except CodecError as exc:
            return str(exc)

    def address(self, written: WrittenOut | str | None) -> bool:
        """Make its letter one of what was written out; whether that is more than it said itself.

        What no birth has named is left as it came, to be set aside by metric; with nothing else in it, all of it is.
        """
        before = self.shipment.letter
        self.shipment.letter = letter = _addressed(before, written)
        return letter is not before and not letter.is_dead


def opened(encoded: bytes, limits: LimitsConfig) -> pb.Payload | None:
    """What a message holds, with one metric more than may be at most; None where it is no payload.

    Two bytes make a metric, which takes half a microsecond to look at: half a million of them fit into a message.
    """
    payload = parse(encoded)
    if payload is not None:
        del payload.metrics[limits.max_metrics_per_node + 1 :]
    return payload


def _growth_bound(size_bytes: int) -> int:
    return max(_ALWAYS_ALLOWED_BYTES, _MAX_GROWTH * size_bytes)


def _addressed(letter: Letter, written: WrittenOut | str | None) -> Letter:
    match written:
        case str(reason):
            return set_aside(letter, reason)
        case WrittenOut(readable=0, unknown=(_, *_) as unknown):
            return set_aside(letter, f"no birth tells the names and data types of {_shown(unknown)}")
        case WrittenOut(encoded=encoded) if encoded is not letter.value:
            return letter._replace(value=encoded)
        case _:
            return letter


def _shown(unknown: tuple[str, ...]) -> str:
    more = len(unknown) - _SHOWN_UNKNOWN
    return ", ".join(unknown[:_SHOWN_UNKNOWN]) + (f" and {more} more" if more > 0 else "")
