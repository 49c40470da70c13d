"""One client of a line, or the serial line itself: its requests are answered one at a time, in their order."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from simulators.ledger import now_ms
from simulators.plant.answering import Asked
from simulators.plant.framing import NoModbusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.plant.answering import Line, Response
    from simulators.plant.disturb import Piece
    from simulators.plant.framing import Framing

logger = logging.getLogger(__name__)

# Requests of one connection that wait; a client that sends more without reading is cut off.
_MOST_WAITING: Final = 64
_BITS_OF_A_BYTE: Final = 11  # of RTU: start, eight of data, parity or a second stop, stop


class Wire(Protocol):
    """Where the answers go."""

    connects: bool
    """Whether it is a connection, which can end and come again."""

    @property
    def is_open(self) -> bool:
        """Whether there is a client still."""
        ...

    def send(self, data: bytes) -> None:
        """Send, without waiting."""
        ...

    def hang_up(self) -> None:
        """End the connection, where there is one."""
        ...


class _Sending(NamedTuple):
    """An answer on its way out."""

    response: Response
    pieces: Iterator[Piece]
    asked_at_ms: int


class Session:
    """Requests in, answers out; `baud` makes both take the time that they take on a serial line."""

    def __init__(self, line: Line, framing: Framing, wire: Wire, client: str, baud: int | None = None) -> None:
        self._line, self._framing, self._wire, self._client, self._baud = line, framing, wire, client, baud
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Asked] = deque()
        self._is_sending = False
        self._is_deaf = False
        self._timers: set[asyncio.TimerHandle] = set()

    def receive(self, data: bytes) -> None:
        """Take in bytes of the client, and answer what is whole."""
        if self._is_deaf:
            return
        now_s = self._loop.time()
        try:
            frames = self._framing.take(data, now_s)
        except NoModbusError as exc:
            self._cut_off(str(exc))
            return
        if len(self._waiting) + len(frames) > _MOST_WAITING:
            self._cut_off(f"more than {_MOST_WAITING} requests at once")
            return
        since_ms = self._line.pulse.asked_since_ms()
        self._waiting.extend(Asked(frame, self._client, now_s, since_ms) for frame in frames)
        self._go_on()

    def end(self) -> None:
        """Answer nothing more: the client has gone."""
        self._waiting.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _cut_off(self, why: str) -> None:
        logger.warning("client cut off: %s", why)
        self._wire.hang_up()

    def _go_on(self) -> None:
        while self._waiting and not self._is_sending and self._wire.is_open and not self._is_deaf:
            self._answer(self._waiting.popleft())

    def _answer(self, asked: Asked) -> None:
        response = self._line.respond(asked, self._framing)
        self._is_deaf = self._is_deaf or (response.goes_deaf and self._wire.connects)
        sending = _Sending(response, iter(response.delivery.pieces), asked.since_ms)
        if response.hangs_up:
            self._line.sent(response, sending.asked_at_ms, now_ms(), self._loop.time())
            self._wire.hang_up()
            return
        self._is_sending = response.delivery.holds_line
        self._send(sending, self._extra_s(asked, response))

    def _extra_s(self, asked: Asked, response: Response) -> float:
        """What the device takes for an answer, and the line for its bytes."""
        extra_s = self._line.limits.turnaround_s
        if self._baud is not None:
            size = len(asked.frame.pdu) + 3 + sum(len(piece.data) for piece in response.delivery.pieces)
            extra_s += size * _BITS_OF_A_BYTE / self._baud
        return extra_s

    def _send(self, sending: _Sending, extra_s: float = 0.0, at_ms: int | None = None) -> None:
        """Send pieces until one has to wait; its timer goes on from there. `at_ms`: when a piece went just before."""
        # Before they go: once they are out, the other side may be quicker than we are.
        at_ms, now_s = at_ms or now_ms(), self._loop.time()
        for delay_s, data in sending.pieces:
            if delay_s + extra_s > 0:
                self._send_later(delay_s + extra_s, data, sending)
                return
            self._put(data)
        if self._wire.is_open:
            self._line.sent(sending.response, sending.asked_at_ms, at_ms, now_s)
        if sending.response.delivery.holds_line:
            self._is_sending = False

    def _send_later(self, delay_s: float, data: bytes, sending: _Sending) -> None:
        def send() -> None:
            self._timers.discard(timer)
            at_ms = now_ms()
            self._put(data)
            self._send(sending, at_ms=at_ms)
            self._go_on()

        timer = self._loop.call_later(delay_s, send)
        self._timers.add(timer)

    def _put(self, data: bytes) -> None:
        if self._wire.is_open:
            self._wire.send(data)
