"""One Modbus line: one request at a time on it, and no answer is ever taken for that of another request.

What a time-out leaves behind is the hard part: the answer may still come. On TCP the connection is closed, and a
transaction id guards the next one. RTU has no such id: there the same unit is not asked by the same function again
until the answer has come after all, or `late_answer_s` have passed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from edge.sources.modbus.budget import transfer_s
from edge.sources.modbus.faults import ModbusFault, NoAnswer, NoConnection, NoTime, Refusal
from edge.sources.modbus.framing import Framing, NotModbus, RtuFraming, TcpFraming
from edge.sources.modbus.transport import SerialPort, Wire, open_tcp
from edge.sources.modbus.turns import Turns

if TYPE_CHECKING:
    from edge.sources.modbus.config import LineConfig
    from edge.sources.modbus.framing import Request
    from edge.sources.modbus.transport import Port

# A device that takes one client at a time needs a moment to let go of the last one.
_REOPENING_PAUSES_S: Final = (0.05, 0.1, 0.2)
_EXCEPTION: Final = 0x80
_FOREVER: Final = float("inf")
# For a line to be silent: noise without end must not keep a write waiting.
_LONGEST_WAIT_S: Final = 70.0


class ModbusLine:
    """A line that is opened when it is needed and opened again when it broke; never asks twice by itself."""

    def __init__(self, config: LineConfig) -> None:
        self._config = config
        self._gap_s, self._byte_s = config.timing.gap_s, config.timing.byte_s
        self._rtu = None if config.transport == "tcp" else RtuFraming()
        self._framing: Framing = self._rtu or TcpFraming()
        self._wire: Wire | None = None
        self._was_open = False
        self._turns = Turns()
        self._answer: asyncio.Future[bytes] | None = None
        self._deadline = 0.0  # loop time, as all below
        self._is_cut_short = False
        self._timer: asyncio.TimerHandle | None = None
        self._active_at = 0.0  # when something last came, or was waited for
        self._late_until: dict[tuple[int, int], float] = {}  # by unit and function
        self._stirred = asyncio.Event()
        self._is_closed = False
        self.connections = 0

    @property
    def skipped(self) -> int:
        """Frames, or runs of bytes that are none, which were no answer to what was asked."""
        return self._framing.skipped

    async def read(self, request: Request, timeout_s: float, *, pause_s: float = 0.0, until: float = _FOREVER) -> bytes:
        """The data of the answer, behind the byte count; raises ModbusFault. Ends by `until` (loop time)."""
        await self._turns.take()
        try:
            return (await self._ask(request, timeout_s, pause_s, until))[2:]
        finally:
            self._turns.give()

    async def write(self, request: Request, check: Request, timeout_s: float, *, pause_s: float = 0.0) -> bytes:
        """Writes before every read that waits, then reads at once: the data that were read; raises ModbusFault."""
        await self._turns.take(first=True)
        try:
            await self._ask(request, timeout_s, pause_s, _FOREVER)
            try:
                return (await self._ask(check, timeout_s, pause_s, _FOREVER))[2:]
            except ModbusFault as exc:
                raise ModbusFault(f"written, but not read back: {exc}") from exc
        finally:
            self._turns.give()

    def release(self) -> None:
        """Closes the connection, unless a request is under way."""
        if not self._turns.taken:
            self._hang_up()

    def close(self) -> None:
        """Closes the line for good."""
        self._is_closed = True
        self._lost("the line was closed")

    async def _ask(self, request: Request, timeout_s: float, pause_s: float, until: float) -> bytes:
        loop = asyncio.get_running_loop()
        wire = self._wire or await self._open(timeout_s, until)
        if self._rtu is not None or pause_s:
            wire = await self._quiet(request, max(pause_s, self._gap_s), min(until, loop.time() + _LONGEST_WAIT_S))
        now = loop.time()
        if self._byte_s:
            timeout_s += transfer_s(request, self._byte_s)
        self._is_cut_short = until < now + timeout_s
        answer: asyncio.Future[bytes] = loop.create_future()
        self._answer = answer
        self._watch(until if self._is_cut_short else now + timeout_s, loop)
        done = False
        try:
            wire.send(self._framing.frame(request))
            pdu = await answer
            done = True
        except OSError as exc:
            raise NoAnswer(exc.strerror or str(exc)) from exc
        finally:
            self._answer = None
            self._active_at = loop.time()
            if not done:
                self._give_up(request)
        if pdu[0] & _EXCEPTION:
            raise Refusal(pdu[1])
        return pdu

    def _give_up(self, request: Request) -> None:
        """An answer may still come, and must not be taken for that of the next request."""
        self._framing.give_up()
        self._late_until[request.kind] = self._active_at + self._config.late_answer_s
        if self._config.transport != "serial":
            self._hang_up()

    # Waiting

    def _watch(self, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        """Sees to it that the request ends in time; one timer serves many requests, as most end long before."""
        self._deadline = deadline
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = loop.call_at(deadline, self._rung, loop)

    def _rung(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._answer is None or self._answer.done():
            return
        if loop.time() < self._deadline:
            self._watch(self._deadline, loop)
        else:
            self._answer.set_exception(NoTime() if self._is_cut_short else NoAnswer("no answer in time"))

    async def _quiet(self, request: Request, gap_s: float, until: float) -> Wire:
        """Waits until this may be asked: the pause is over, and no late answer is expected that looks like its own."""
        while True:
            wire = self._wire or await self._open(self._config.request_timeout_s, until)
            if self._rtu is not None:
                wire.drain()
            late = self._rtu is not None and self._rtu.owes(request)
            free_at = max(self._active_at + gap_s, self._late_until[request.kind] if late else 0.0)
            now = asyncio.get_running_loop().time()
            if free_at <= now and self._wire is wire:
                return wire
            if free_at > until:
                raise NoTime
            self._stirred.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(free_at - now):
                    await self._stirred.wait()

    # Connection

    async def _open(self, timeout_s: float, until: float) -> Wire:
        if self._is_closed:
            raise NoConnection("the line was closed")
        left_s = until - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise NoTime
        try:
            async with asyncio.timeout(min(timeout_s, left_s)):
                port = await self._open_port()
        except TimeoutError as exc:
            if left_s < timeout_s:
                raise NoTime from exc
            raise NoConnection(f"no connection to {self._config.line_name} in time") from exc
        self._framing.restart()
        self._wire = Wire(port, self._received, self._lost)
        self._was_open = True
        self.connections += 1
        return self._wire

    async def _open_port(self) -> Port:
        config = self._config
        pauses = [*_REOPENING_PAUSES_S] if self._was_open else []
        self._was_open = False
        while True:
            try:
                if config.transport == "serial":
                    return SerialPort(config.device or "", config.baudrate or 0, config.parity, config.stopbits)
                return await open_tcp(config.host or "", config.port)
            except OSError as exc:
                if not pauses:
                    raise NoConnection(f"no connection to {config.line_name}: {exc.strerror or exc}") from exc
                await asyncio.sleep(pauses.pop(0))

    def _received(self, data: bytes) -> None:
        if self._rtu is not None:
            self._active_at = asyncio.get_running_loop().time()
            self._stirred.set()
        try:
            pdu = self._framing.feed(data)
        except NotModbus as exc:
            self._lost(str(exc))
            return
        if pdu is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(pdu)

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lost(self, why: str) -> None:
        self._hang_up()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(why))
