"""The plant's Modbus TCP server: pymodbus's framer and PDUs on asyncio.

Not pymodbus's own server: it keeps one request per connection in a variable that the next one overwrites,
and does not say whether an answer found its client still there, which the ledger has to know.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, cast

from pymodbus.exceptions import ModbusIOException
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU, ExceptionResponse
from pymodbus.pdu.bit_message import (
    ReadCoilsResponse,
    ReadDiscreteInputsResponse,
    WriteMultipleCoilsResponse,
    WriteSingleCoilResponse,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersResponse,
    ReadInputRegistersResponse,
    WriteMultipleRegistersResponse,
    WriteSingleRegisterResponse,
)

from simulators.ledger import now_ms
from simulators.plant.line import ILLEGAL_FUNCTION, ILLEGAL_VALUE, DroppedError, RefusedError
from simulators.plant.memory import Block
from simulators.plant.points import Table
from simulators.plant.register_map import UNITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymodbus.pdu import ModbusPDU

    from simulators.ledger import Ledger, Value
    from simulators.plant.line import Plant

logger = logging.getLogger(__name__)

_READS: Final = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}
_BIT_READS: Final = {1: ReadCoilsResponse, 2: ReadDiscreteInputsResponse}
_REGISTER_READS: Final = {3: ReadHoldingRegistersResponse, 4: ReadInputRegistersResponse}
# Requests of one connection that wait; a client that sends more without reading is cut off.
_MOST_WAITING: Final = 64
_LARGEST_FRAME: Final = 260  # Modbus messaging on TCP/IP 1.0b, 4.1
# An answer that took longer than this says in the ledger when it was asked for.
_AT_ONCE_MS: Final = 50


class Connection(asyncio.Protocol):
    """One client: its requests are answered one at a time, in order."""

    def __init__(self, plant: Plant, ledger: Ledger, catch_up: Callable[[], None], open_: set[Connection]) -> None:
        self._plant, self._ledger, self._catch_up, self._open = plant, ledger, catch_up, open_
        self._framer = FramerSocket(DecodePDU(is_server=True))
        self._buffer = b""
        self._requests: asyncio.Queue[ModbusPDU] = asyncio.Queue(_MOST_WAITING)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start answering."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)
        self._task = asyncio.create_task(self._answer_all(), name=f"modbus {transport.get_extra_info('peername')}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop answering."""
        logger.debug("client gone: %s", exc or "closed")
        self._transport = None
        self._open.discard(self)
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        """A client that sends no more has gone away: nothing more is served to it."""
        return False

    def data_received(self, data: bytes) -> None:
        """Take in whole requests, keep the rest for later."""
        self._buffer += data
        try:
            while (request := self._next_request()) is not None:
                self._requests.put_nowait(request)
        except asyncio.QueueFull:
            self._cut_off(f"more than {_MOST_WAITING} requests at once")
        except ValueError as exc:
            self._cut_off(str(exc))

    def _cut_off(self, why: str) -> None:
        logger.warning("client cut off: %s", why)
        self.close()

    def _next_request(self) -> ModbusPDU | None:
        """The next whole request, an ExceptionResponse for one not understood; raises ValueError for no Modbus."""
        if len(self._buffer) < FramerSocket.MIN_SIZE:
            return None
        size = 6 + int.from_bytes(self._buffer[4:6], "big")
        if self._buffer[2:4] != b"\0\0" or not FramerSocket.MIN_SIZE <= size <= _LARGEST_FRAME:
            raise ValueError(f"{self._buffer[:8]!r} is no Modbus TCP")
        if len(self._buffer) < size:
            return None
        frame, self._buffer = self._buffer[:size], self._buffer[size:]
        try:
            _, request = self._framer.handleFrame(frame, 0, 0)
        except ModbusIOException:
            return _undecodable(frame, self._framer.decoder)
        return request

    async def _answer_all(self) -> None:
        while True:
            await self._answer(await self._requests.get())

    async def _answer(self, request: ModbusPDU) -> None:
        self._catch_up()
        asked_at, delay_s = now_ms(), self._plant.delay_s(request.dev_id)
        try:
            response, values = self._respond(request)
        except RefusedError as refused:
            response, values = ExceptionResponse(request.function_code, refused.code), {}
        except DroppedError:
            # A client that was dropped need not come back for the rest of the unit before its next poll.
            self._ledger.refused([point.name for point in UNITS[request.dev_id]])
            self.close()
            return
        if delay_s:
            await asyncio.sleep(delay_s)
        response.dev_id, response.transaction_id = request.dev_id, request.transaction_id
        if self._send(response, values, asked_at) and response.isError():
            self._note_refusal(request)

    def _send(self, response: ModbusPDU, values: dict[str, Value], asked_at: int) -> bool:
        """Send and note an answer; False when its client has gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        at = now_ms()
        self._transport.write(self._framer.buildFrame(response))
        if values:
            self._ledger.served(values, at=at, asked_at=asked_at if at - asked_at > _AT_ONCE_MS else None)
        return True

    def _note_refusal(self, request: ModbusPDU) -> None:
        """Note which points a read was to give and did not: their bad readings are this poll's, and no other's."""
        if request.function_code not in _READS:
            return
        block = _block(request)
        metrics = [point.name for point in UNITS.get(block.unit_id, ()) if block.covers(point)]
        if metrics:
            self._ledger.refused(metrics)

    def _respond(self, request: ModbusPDU) -> tuple[ModbusPDU, dict[str, Value]]:
        """The response to a request and the values in it; raises RefusedError or DroppedError."""
        if isinstance(request, ExceptionResponse):
            return request, {}
        code = request.function_code
        if code not in _READS:
            return self._write(request), {}
        answer = self._plant.read(_block(request))
        if code in _BIT_READS:
            return _BIT_READS[code](bits=[bool(word) for word in answer.words]), answer.values
        return _REGISTER_READS[code](registers=answer.words), answer.values

    def _write(self, request: ModbusPDU) -> ModbusPDU:
        address, unit_id = request.address, request.dev_id
        match request.function_code:
            case 5:
                self._plant.write(Block(unit_id, Table.COIL, address, 1), [int(request.bits[0])])
                return WriteSingleCoilResponse(address=address, bits=request.bits)
            case 6:
                self._plant.write(Block(unit_id, Table.HOLDING, address, 1), request.registers)
                return WriteSingleRegisterResponse(address=address, registers=request.registers)
            case 15:
                bits = [int(bit) for bit in request.bits[: request.count]]
                self._plant.write(Block(unit_id, Table.COIL, address, len(bits)), bits)
                return WriteMultipleCoilsResponse(address=address, count=request.count)
            case 16:
                self._plant.write(Block(unit_id, Table.HOLDING, address, request.count), request.registers)
                return WriteMultipleRegistersResponse(address=address, count=request.count)
            case _:
                raise RefusedError(ILLEGAL_FUNCTION)

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()


def _block(read: ModbusPDU) -> Block:
    return Block(read.dev_id, _READS[read.function_code], read.address, read.count)


def _undecodable(frame: bytes, decoder: DecodePDU) -> ExceptionResponse:
    code = frame[7] & 0x7F
    reason = ILLEGAL_VALUE if code in decoder.pdu_table else ILLEGAL_FUNCTION
    return ExceptionResponse(code, reason, device_id=frame[6], transaction=int.from_bytes(frame[:2], "big"))
