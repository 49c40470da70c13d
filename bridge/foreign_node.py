"""One node that does not stamp its batches: any Sparkplug node but our own agents.

Its DATA may leave out names and data types, which its births told. It goes to Kafka written out, so that whoever reads
it there needs no state. What cannot be written out yet is held until the births come that are asked for; the node's
DATA keeps its order meanwhile. A gap in `seq` can hide a birth, and so can a connection of ours that was lost: after
either no name of before is trusted.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bridge.births import ASK_AGAIN_AFTER_S
from bridge.names import NODE, NodeNames
from bridge.order import SeqOrder
from bridge.parcel import Parcel, opened
from bridge.triage import DATA
from contract.aliases import WrittenOut, birth_number, sequence_number
from contract.topics import MessageType

if TYPE_CHECKING:
    from bridge.config import HostConfig, LimitsConfig
    from bridge.outbox import Shipment
    from contract.aliases import Names

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


class ForeignNode:
    """Its names on the present connection, the order of its messages, and those that are held."""

    def __init__(self, host: HostConfig, limits: LimitsConfig, counts: ForeignCounts, generation: int) -> None:
        self._host = host
        self._limits = limits
        self._counts = counts
        self._generation = generation
        self._names = NodeNames(limits.max_metrics_per_node)
        self._order: SeqOrder[Parcel] = SeqOrder()
        self._held: deque[Parcel] = deque()
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
        parcel = Parcel(shipment, letter.device or NODE, opened(letter.value, self._limits))
        self.held_bytes += parcel.size_bytes
        match letter.message_type:
            case MessageType.NBIRTH:
                self._born(parcel, now_s, outcome)
            case MessageType.NDEATH:
                self._died(parcel, now_s, outcome)
            case _:
                self._arrived(parcel, now_s, outcome)
                self._fit_bound(now_s, outcome)
        parcel.payload = None
        if shipment.slot is not None and shipment not in outcome.ship:
            outcome.ship.append(parcel.take_slot())

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

    # Births and deaths.

    def _born(self, parcel: Parcel, now_s: float, outcome: Outcome) -> None:
        self._break_order(now_s, outcome)
        self._names.clear()
        self._is_awaited, self._is_silent, self._ask_why = False, False, None
        self._order.restart(sequence_number(parcel.payload) if parcel.payload else None)
        if parcel.payload is not None:
            self._born_at = now_s
            self._bd_seq = birth_number(parcel.payload)
            self._names.learn(NODE, parcel.payload)
        self._ship(parcel, outcome)
        self._advance(now_s, outcome)

    def _died(self, parcel: Parcel, now_s: float, outcome: Outcome) -> None:
        told = birth_number(parcel.payload) if parcel.payload else None
        if told is not None and self._bd_seq is not None and told != self._bd_seq:
            # The will of a connection that another has replaced: the node lives.
            self._counts.stale_deaths += 1
        else:
            self.let_go(now_s, outcome)
            self._forget_names()
        self._ship(parcel, outcome)

    def _device_born(self, parcel: Parcel, outcome: Outcome) -> None:
        self._names.unlearn(parcel.device)
        if parcel.payload is not None:
            self._names.learn(parcel.device, parcel.payload)
        self._is_silent = False
        self._ship(parcel, outcome)

    def _device_died(self, parcel: Parcel, outcome: Outcome) -> None:
        of_device = [held for held in self._held if held.device == parcel.device]
        self._held = deque(held for held in self._held if held.device != parcel.device)
        for held in of_device:
            self._ship_readable(held, outcome, self._write_out(held))
        self._names.unlearn(parcel.device)
        self._ship(parcel, outcome)

    def _reconnected(self, generation: int, now_s: float, outcome: Outcome) -> None:
        # Births at QoS 0 that came while we were away are lost.
        self._break_order(now_s, outcome)
        self._forget_names()
        self._generation, self._bd_seq = generation, None

    def _forget_names(self) -> None:
        self._names.clear()
        self._order.restart(None)
        self._born_at = -math.inf
        self._is_awaited = self._is_silent = False

    # The order of messages.

    def _arrived(self, parcel: Parcel, now_s: float, outcome: Outcome) -> None:
        for passed in self._order.take(sequence_number(parcel.payload) if parcel.payload else None, parcel):
            self._in_order(passed, now_s, outcome)
        if not len(self._order):
            self._gap_until = math.inf
            return
        self._gap_until = min(self._gap_until, now_s + self._host.reorder_wait_s)
        if now_s >= self._gap_until:
            self._bridge_gap(now_s, outcome)

    def _in_order(self, parcel: Parcel, now_s: float, outcome: Outcome) -> None:
        match parcel.shipment.letter.message_type:
            case MessageType.DBIRTH:
                parcel.payload = parcel.payload or opened(parcel.shipment.letter.value, self._limits)
                self._device_born(parcel, outcome)
            case MessageType.DDEATH:
                self._device_died(parcel, outcome)
            case _:
                parcel.until = self._patience_ends(now_s)
                self._held.append(parcel)
        self._advance(now_s, outcome)

    def _bridge_gap(self, now_s: float, outcome: Outcome) -> None:
        """Go on without what is missing: it may have been a birth, so births are asked for."""
        self._counts.seq_gaps += 1
        self._gap_until = math.inf
        self._names.clear()
        self._ask(now_s, outcome, "has lost a message on the way")
        for parcel in self._order.give_up():
            self._in_order(parcel, now_s, outcome)

    def _break_order(self, now_s: float, outcome: Outcome) -> None:
        """Wait no longer for what is missing, nor trust a name; DATA that came early is held for the next births."""
        early = self._order.give_up()
        self._gap_until = math.inf
        if early:
            self._counts.seq_gaps += 1
            self._names.clear()
        for parcel in early:
            if parcel.shipment.letter.message_type in DATA:
                parcel.until = self._patience_ends(now_s)
                self._held.append(parcel)
            else:
                self._ship(parcel, outcome)

    # What is held.

    def _advance(self, now_s: float, outcome: Outcome) -> None:
        """Ship what is held from its head on, as far as it can be read or has waited long enough."""
        while self._held:
            head = self._held[0]
            names = self._names.get(head.device)
            is_born_since = names is not None and names is not head.tried_with
            if head.is_tried and not is_born_since and now_s < head.until:
                return
            written = self._write_out(head)
            if now_s >= head.until:
                self._is_silent = True
                self._ask(now_s, outcome, _UNBORN)
            elif not head.is_tried and self._should_wait(names, written, now_s, outcome):
                head.hold(names)
                return
            self._ship_readable(self._held.popleft(), outcome, written)

    def _should_wait(
        self, names: Names | None, written: WrittenOut | str | None, now_s: float, outcome: Outcome
    ) -> bool:
        """Whether births may come that make more of a message readable; they are asked for."""
        is_all_known = not isinstance(written, WrittenOut) or not written.unknown
        if is_all_known and names is not None:
            return False
        # After the node's birth those of its devices follow.
        may_follow = names is None and now_s < self._born_at + self._host.birth_wait_s
        if not may_follow:
            self._ask(now_s, outcome, _UNBORN if names is None else "uses an unknown alias")
        # Of one that is born, births that were not asked for just now would tell no more.
        return not is_all_known and not self._is_silent and (names is None or self._is_awaited)

    def _fit_bound(self, now_s: float, outcome: Outcome) -> None:
        while self.held > self._limits.max_held_per_node:
            if not self._held:
                self._bridge_gap(now_s, outcome)
            else:
                head = self._held.popleft()
                self._ship_readable(head, outcome, self._write_out(head))

    def _ship_held(self, outcome: Outcome) -> None:
        for held in self._held:
            self._ship_readable(held, outcome, self._write_out(held))
        self._held.clear()

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

    def _write_out(self, parcel: Parcel) -> WrittenOut | str | None:
        return parcel.write_out(self._names.get(parcel.device), self._limits)

    def _ship_readable(self, parcel: Parcel, outcome: Outcome, written: WrittenOut | str | None) -> None:
        self._counts.written_out += parcel.address(written)
        self._ship(parcel, outcome)

    def _ship(self, parcel: Parcel, outcome: Outcome) -> None:
        self.held_bytes -= parcel.size_bytes
        outcome.ship.append(parcel.shipment)
