"""How a line answers: limits first, then faults, then what its units hold."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from simulators.plant.counts import Counts
from simulators.plant.disturb import Delivery, Piece, deliver
from simulators.plant.limits import code_of
from simulators.plant.line_faults import Busy, CommsError, ForbiddenAddress, HalfOpen, LineFault, Silent
from simulators.plant.memory import Block
from simulators.plant.pdu import ExceptionCode, RefusedError, exception, parse_request, read_answer
from simulators.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from simulators.ledger import Ledger, Value
    from simulators.plant.framing import Frame, Framing
    from simulators.plant.limits import Complaint, Limits
    from simulators.plant.pdu import Write
    from simulators.plant.site import Site

# An answer that took longer than this says in the ledger when it was asked for.
_AT_ONCE_MS: Final = 50
_LONGEST_JUNK: Final = 20


class Asked(NamedTuple):
    """A request as it was read: `at_s` is the event loop's time, `since_ms` the earliest (UTC) that it was there."""

    frame: Frame
    client: str
    at_s: float
    since_ms: int


@dataclass(frozen=True, slots=True)
class Response:
    """What comes of a request: bytes, perhaps none; the connection's end; or its silence for good.

    `values` are those a client has once it has the answer, `refused` the points that it wanted and will not have.
    """

    delivery: Delivery = field(default_factory=Delivery)
    values: Mapping[str, Value] = field(default_factory=dict)
    refused: Sequence[str] = ()
    hangs_up: bool = False
    goes_deaf: bool = False


class Line:
    """What all clients of a line share: what stands behind it, its limits, its faults' dice, and the counts."""

    def __init__(self, site: Site, limits: Limits, ledger: Ledger, catch_up: Callable[[], None], seed: int) -> None:
        self.counts = Counts()
        self.pulse = Pulse()
        self.limits = limits
        self._site, self._ledger, self._catch_up = site, ledger, catch_up
        self._rng = random.Random(f"line faults {seed}")  # noqa: S311 - a simulation must be repeatable
        self._answered_at_s = float("-inf")

    def respond(self, asked: Asked, framing: Framing) -> Response:
        """What a request is answered with."""
        self._catch_up()
        frame, limits = asked.frame, self.limits
        self.counts.asked(asked.client, frame.unit_id)
        if limits.pause_s and asked.at_s - self._answered_at_s < limits.pause_s:
            return self._complain(frame, limits.when_too_soon, framing)
        if frame.unit_id not in self._site.unit_ids:
            return self._complain(frame, limits.absent_unit, framing)
        return self._answer(frame, self._drawn(frame.unit_id) if self._site.active else (), framing)

    def sent(self, response: Response, asked_at_ms: int, at_ms: int, now_s: float) -> None:
        """Note an answer that went out at `at_ms`, wholly, to a client that is still there."""
        if response.delivery.pieces:
            self._answered_at_s = now_s
        if response.values:
            late = asked_at_ms if at_ms - asked_at_ms > _AT_ONCE_MS else None
            self._ledger.served(response.values, at=at_ms, asked_at=late)
        if response.refused:
            self._ledger.refused(response.refused, at=at_ms)

    def _drawn(self, unit_id: int) -> list[LineFault]:
        """The faults that this request meets."""
        acting = [s.fault for s in self._site.active if isinstance(s.fault, LineFault)]
        return [f for f in acting if f.concerns(unit_id) and (f.share == 1 or self._rng.random() < f.share)]

    def _answer(self, frame: Frame, faults: Sequence[LineFault], framing: Framing) -> Response:
        for fault in faults:
            if isinstance(fault, CommsError | HalfOpen | Silent):
                # A client that was dropped need not come back for the rest of the unit before its next poll.
                self.counts.refused()
                names = self._site.names(frame.unit_id)
                deaf = isinstance(fault, HalfOpen)
                return Response(refused=names, hangs_up=isinstance(fault, CommsError), goes_deaf=deaf)
        try:
            pdu, values, wanted = self._respond(frame, faults)
        except RefusedError as exc:
            self.counts.refused()
            pdu, values, wanted = exception(frame.pdu[0], exc.code), {}, self._wanted(frame)
        delivery = deliver(frame._replace(pdu=pdu), faults, framing, self._rng)
        if values and not delivery.is_true:
            return Response(delivery, refused=tuple(values))
        return Response(delivery, values, wanted)

    def _respond(self, frame: Frame, faults: Sequence[LineFault]) -> tuple[bytes, Mapping[str, Value], Sequence[str]]:
        """The answer to a request, and the values in it; raises RefusedError."""
        request = parse_request(frame.unit_id, frame.pdu)
        block = request if isinstance(request, Block) else request.block
        _refuse_by_fault(block, faults)
        if not isinstance(request, Block):
            return self._write(request), {}, ()
        limits = self.limits
        if block.count > (limits.max_bits if block.table.of_bits else limits.max_registers):
            raise RefusedError(code_of(limits.when_too_many) or ExceptionCode.ILLEGAL_VALUE)
        content = self._site.content(block)
        self.counts.answered(block.count)
        return read_answer(frame.pdu[0], content.data), content.values, ()

    def _write(self, request: Write) -> bytes:
        try:
            values = self._site.write(request.block, request.words)
        except RefusedError as exc:
            self._ledger.written(request.block.as_json(), request.words, exception=exc.code)
            raise
        self._ledger.written(request.block.as_json(), request.words, values)
        return request.answer

    def _wanted(self, frame: Frame) -> Sequence[str]:
        """The points that a read was to give and did not: their bad readings are this poll's, and no other's."""
        try:
            request = parse_request(frame.unit_id, frame.pdu)
        except RefusedError:
            return ()
        return self._site.names(frame.unit_id, request) if isinstance(request, Block) else ()

    def _complain(self, frame: Frame, complaint: Complaint, framing: Framing) -> Response:
        self.counts.refused()
        if complaint == "silence":
            return Response()
        code = code_of(complaint)
        if code is None:
            junk = self._rng.randbytes(self._rng.randint(1, _LONGEST_JUNK))
            return Response(Delivery((Piece(0.0, junk),), is_true=False))
        answer = frame._replace(pdu=exception(frame.pdu[0], code))
        return Response(Delivery((Piece(0.0, framing.build(answer)),)))


def _refuse_by_fault(block: Block, faults: Sequence[LineFault]) -> None:
    for fault in faults:
        if isinstance(fault, Busy):
            raise RefusedError(ExceptionCode.BUSY)
        if isinstance(fault, ForbiddenAddress) and fault.forbids(block):
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
