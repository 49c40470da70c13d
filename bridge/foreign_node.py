"""One node that does not stamp its batches: any Sparkplug node but our own agents.

Its DATA may leave out names and data types, which its births told. It goes to Kafka written out, so that whoever reads
it there needs no state. What cannot be written out yet is held until the births come that are asked for; the node's
DATA keeps its order meanwhile. A gap in `seq` can hide a birth, and so can a connection of ours that was lost: after
either no name of before is trusted.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from bridge.births import ASK_AGAIN_AFTER_S
from bridge.names import NODE, NodeNames
from bridge.order import SeqOrder
from bridge.triage import DATA, set_aside
from contract.aliases import WrittenOut, birth_number, parse, sequence_number, write_out
from contract.errors import CodecError
from contract.topics import MessageType

if TYPE_CHECKING:
    from bridge.config import HostConfig, LimitsConfig
    from bridge.outbox import Shipment
    from contract import sparkplug_b_pb2 as pb
    from contract.aliases import Names

# What a held message takes in memory beside its payload.
_HELD_BYTES: Final = 2048
_SHOWN_UNKNOWN: Final = 5
_UNBORN: Final = "sends data and has not been seen to be born"


@dataclass(slots=True)
class ForeignCounts:
    """What has happened since the start."""

    written_out: int = 0
    seq_gaps: int = 0
    rebirths_asked: int = 0
    stale_deaths: int = 0
    nodes_forgotten: int = 0


@dataclass(slots=True)
class Outcome:
    """What is to be shipped now, in this order, and why the node has to be asked for its births, if it has."""

    ship: list[Shipment] = field(default_factory=list)
    ask: str | None = None


@dataclass(slots=True, eq=False)
class _Item:
    """A message of the node's; `payload` is what it holds, known only until it is first tried."""

    shipment: Shipment
    device: str
    payload: pb.Payload | None
    until: float = math.inf  # then holding it ends, in monotonic seconds
    is_tried: bool = False
    tried_with: Names | None = None
    written: WrittenOut | str | None = None
    size_bytes: int = 0

    def __post_init__(self) -> None:
        self.size_bytes = len(self.shipment.letter.value) + _HELD_BYTES


class ForeignNode:
    """Its names on the present connection, the order of its messages, and those that are held."""

    def __init__(self, host: HostConfig, limits: LimitsConfig, counts: ForeignCounts, generation: int) -> None:
        self._host = host
        self._limits = limits
        self._counts = counts
        self._generation = generation
        self._names = NodeNames(limits.max_metrics_per_node)
        self._order: SeqOrder[_Item] = SeqOrder()
        self._held: deque[_Item] = deque()
        self._gap_until = math.inf
        self._bd_seq: int | None = None
        self._asked_at = self._born_at = -math.inf
        self._ask_why: str | None = None  # to be asked as soon as may be
        self._is_awaited = False  # asked, and no NBIRTH since
        self._is_silent = False  # the last that was held waited in vain: nothing more is held until a birth comes
        self.held_bytes = 0

    @property
    def held(self) -> int:
        """How many messages are held."""
        return len(self._held) + len(self._order)

    @property
    def names_bytes(self) -> int:
        """What its names take in memory, about."""
        return self._names.size_bytes

    def take(self, shipment: Shipment, generation: int, now_s: float, outcome: Outcome) -> None:
        """Take in a birth, a death, or DATA without a stamp."""
        if generation != self._generation:
            self._reconnected(generation, now_s, outcome)
        letter = shipment.letter
        item = _Item(shipment, letter.device or NODE, parse(letter.value))
        self.held_bytes += item.size_bytes
        match letter.message_type:
            case MessageType.NBIRTH:
                self._born(item, now_s, outcome)
            case MessageType.NDEATH:
                self._died(item, now_s, outcome)
            case _:
                self._arrived(item, now_s, outcome)
                self._fit_bound(now_s, outcome)

    def tick(self, now_s: float, outcome: Outcome) -> None:
        """Go on without what has been waited for long enough."""
        if now_s >= self._gap_until:
            self._bridge_gap(now_s, outcome)
        if self._held and self._ask_why is not None:
            self._ask(now_s, outcome, self._ask_why)
        self._advance(now_s, outcome)

    def let_go(self, now_s: float, outcome: Outcome) -> None:
        """Ship all that is held, as far as it can be read."""
        self._ship_held(outcome)
        self._break_order(now_s, outcome)
        self._ship_held(outcome)

    def end(self, now_s: float, outcome: Outcome) -> None:
        """Ship all that is held, and know nothing of the node any more."""
        self.let_go(now_s, outcome)
        self._forget_names()

    def leave_to_broker(self) -> None:
        """Drop what is held and will be sent again, as it is not acknowledged: all but QoS 0."""
        kept = [item for item in (*self._held, *self._order.give_up()) if item.shipment.slot is None]
        self._held = deque(kept)
        self.held_bytes = sum(item.size_bytes for item in kept)

    # Births and deaths.

    def _born(self, item: _Item, now_s: float, outcome: Outcome) -> None:
        self._break_order(now_s, outcome)
        self._is_awaited, self._is_silent, self._ask_why = False, False, None
        self._order.restart(sequence_number(item.payload) if item.payload else None)
        if item.payload is not None:
            self._born_at = now_s
            self._bd_seq = birth_number(item.payload)
            self._names.learn(NODE, item.payload)
        self._ship(item, outcome)
        self._advance(now_s, outcome)

    def _died(self, item: _Item, now_s: float, outcome: Outcome) -> None:
        told = birth_number(item.payload) if item.payload else None
        if told is not None and self._bd_seq is not None and told != self._bd_seq:
            # The will of a connection that another has replaced: the node lives.
            self._counts.stale_deaths += 1
        else:
            self.let_go(now_s, outcome)
            self._forget_names()
        self._ship(item, outcome)

    def _device_born(self, item: _Item, outcome: Outcome) -> None:
        self._names.unlearn(item.device)
        if item.payload is not None:
            self._names.learn(item.device, item.payload)
        self._is_silent = False
        self._ship(item, outcome)

    def _device_died(self, item: _Item, outcome: Outcome) -> None:
        of_device = [held for held in self._held if held.device == item.device]
        self._held = deque(held for held in self._held if held.device != item.device)
        for held in of_device:
            self._ship_readable(held, outcome)
        self._names.unlearn(item.device)
        self._ship(item, outcome)

    def _reconnected(self, generation: int, now_s: float, outcome: Outcome) -> None:
        # Births at QoS 0 that came while we were away are lost, and what was held at QoS 1 comes again.
        self._break_order(now_s, outcome)
        self._forget_names()
        self._generation = generation

    def _forget_names(self) -> None:
        self._names.clear()
        self._order.restart(None)
        self._born_at = -math.inf
        self._is_awaited = self._is_silent = False

    # The order of messages.

    def _arrived(self, item: _Item, now_s: float, outcome: Outcome) -> None:
        for passed in self._order.take(sequence_number(item.payload) if item.payload else None, item):
            self._in_order(passed, now_s, outcome)
        if not len(self._order):
            self._gap_until = math.inf
            return
        item.payload = None
        self._gap_until = min(self._gap_until, now_s + self._host.reorder_wait_s)
        if now_s >= self._gap_until:
            self._bridge_gap(now_s, outcome)

    def _in_order(self, item: _Item, now_s: float, outcome: Outcome) -> None:
        match item.shipment.letter.message_type:
            case MessageType.DBIRTH:
                item.payload = item.payload or parse(item.shipment.letter.value)
                self._device_born(item, outcome)
            case MessageType.DDEATH:
                self._device_died(item, outcome)
            case _:
                item.until = self._patience_ends(now_s)
                self._held.append(item)
        self._advance(now_s, outcome)

    def _bridge_gap(self, now_s: float, outcome: Outcome) -> None:
        """Go on without what is missing: it may have been a birth, so births are asked for."""
        self._counts.seq_gaps += 1
        self._gap_until = math.inf
        self._names.clear()
        self._ask(now_s, outcome, "has lost a message on the way")
        for item in self._order.give_up():
            self._in_order(item, now_s, outcome)

    def _break_order(self, now_s: float, outcome: Outcome) -> None:
        """Wait no longer for what is missing, nor trust a name; DATA that came early is held for the next births."""
        early = self._order.give_up()
        self._gap_until = math.inf
        if early:
            self._counts.seq_gaps += 1
        self._names.clear()
        for item in early:
            if item.shipment.letter.message_type in DATA:
                item.until = self._patience_ends(now_s)
                self._held.append(item)
            else:
                self._ship(item, outcome)

    # What is held.

    def _advance(self, now_s: float, outcome: Outcome) -> None:
        """Ship what is held from its head on, as far as it can be read or has waited long enough."""
        while self._held:
            head = self._held[0]
            names = self._names.get(head.device)
            is_born_since = head.is_tried and names is not None and names is not head.tried_with
            if now_s >= head.until:
                self._is_silent = True
                self._ask(now_s, outcome, _UNBORN)
            elif not is_born_since and (head.is_tried or self._should_wait(head, names, now_s, outcome)):
                head.payload, head.written, head.is_tried, head.tried_with = None, None, True, names
                return
            self._ship_readable(self._held.popleft(), outcome)

    def _fit_bound(self, now_s: float, outcome: Outcome) -> None:
        while self.held > self._limits.max_held_per_node:
            if self._held:
                self._ship_readable(self._held.popleft(), outcome)
            else:
                self._bridge_gap(now_s, outcome)

    def _ship_held(self, outcome: Outcome) -> None:
        while self._held:
            self._ship_readable(self._held.popleft(), outcome)

    def _should_wait(self, item: _Item, names: Names | None, now_s: float, outcome: Outcome) -> bool:
        """Whether births may come that make more of a message readable; they are asked for."""
        item.written = written = self._write_out(item)
        is_all_known = not isinstance(written, WrittenOut) or not written.unknown
        if is_all_known and names is not None:
            return False
        # After the node's birth those of its devices follow.
        may_follow = names is None and now_s < self._born_at + self._host.birth_wait_s
        if not may_follow:
            self._ask(now_s, outcome, _UNBORN if names is None else "uses an unknown alias")
        # Of one that is born, births that were not asked for just now would tell no more.
        return not is_all_known and not self._is_silent and (names is None or self._is_awaited)

    def _ask(self, now_s: float, outcome: Outcome, why: str) -> None:
        """Ask for births, at once or as soon as may be."""
        self._ask_why = why
        if now_s >= self._asked_at + ASK_AGAIN_AFTER_S:
            self._asked_at, self._is_awaited, self._ask_why = now_s, True, None
            self._counts.rebirths_asked += 1
            outcome.ask = why

    def _patience_ends(self, now_s: float) -> float:
        """Until when something that comes now is held: births take their time, and may not be asked for at once."""
        if self._is_awaited or not self._host.birth_wait_s:
            return now_s + self._host.birth_wait_s
        return max(now_s, self._asked_at + ASK_AGAIN_AFTER_S) + self._host.birth_wait_s

    def _write_out(self, item: _Item) -> WrittenOut | str | None:
        """A message written out, or why it cannot be; None for what is no payload, as whoever decodes it will say."""
        encoded = item.shipment.letter.value
        payload = item.payload or parse(encoded)
        if payload is None:
            return None
        try:
            return write_out(encoded, payload, self._names.get(item.device), self._limits.max_payload_bytes)
        except CodecError as exc:
            return str(exc)

    def _ship_readable(self, item: _Item, outcome: Outcome) -> None:
        """Ship a message by name: what of it cannot be named is left as it came, to be set aside by metric."""
        letter = item.shipment.letter
        match item.written or self._write_out(item):
            case str(reason):
                item.shipment.letter = set_aside(letter, reason)
            case WrittenOut(readable=0, unknown=(_, *_) as unknown):
                item.shipment.letter = set_aside(
                    letter, f"no birth tells the names and data types of {_shown(unknown)}"
                )
            case WrittenOut(encoded=encoded) if encoded is not letter.value:
                self._counts.written_out += 1
                item.shipment.letter = replace(letter, value=encoded)
        self._ship(item, outcome)

    def _ship(self, item: _Item, outcome: Outcome) -> None:
        self.held_bytes -= item.size_bytes
        outcome.ship.append(item.shipment)


def _shown(unknown: tuple[str, ...]) -> str:
    more = len(unknown) - _SHOWN_UNKNOWN
    return ", ".join(unknown[:_SHOWN_UNKNOWN]) + (f" and {more} more" if more > 0 else "")
