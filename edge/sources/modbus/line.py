"""The connection to one Modbus TCP line: the only place that knows pymodbus.

ModbusFault (a SourceError)
├── NoConnection   the line cannot be reached
├── NoAnswer       nothing, or nothing that can be used, came back in time
└── Refusal        the device answered with an exception code

After a NoAnswer, and when a read is cancelled, the connection is closed: an answer that comes late goes to a
closed socket and is never taken for that of a later request. pymodbus' own retries and reconnecting are off.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING, Final

from edge.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymodbus.client import AsyncModbusTcpClient
    from pymodbus.pdu import ModbusPDU

    from edge.sources.modbus.blocks import Block

# Modbus application protocol 1.1b3, 7.
_EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not answer",
}
_ABOUT_ADDRESSES: Final = frozenset({2, 3})
_FUNCTIONS: Final = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_REOPENING_PAUSES_S: Final = (0.05, 0.1, 0.2)


class ModbusFault(SourceError):  # noqa: N818 - its children say what is the matter, not that it is an error
    """A read that brought no registers."""


class NoConnection(ModbusFault):
    """The line cannot be reached."""


class NoAnswer(ModbusFault):
    """Nothing, or nothing that can be used, came back in time."""


class Refusal(ModbusFault):
    """The device answered with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{_EXCEPTIONS.get(code, 'unknown exception')} (exception {code})")
        self.code = code

    @property
    def is_about_addresses(self) -> bool:
        """Whether fewer registers in one request might be answered."""
        return self.code in _ABOUT_ADDRESSES


class ModbusLine:
    """One TCP connection, opened when it is needed; one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        # What pymodbus logs, the source reports itself, once and with the points it concerns.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)
        self._host = host
        self._port = port
        self._client: AsyncModbusTcpClient | None = None
        self._was_open = False

    async def read(self, block: Block, timeout_s: float) -> Sequence[int] | Sequence[bool]:
        """The registers or bits of a block; raises ModbusFault. Connects first where there is no connection."""
        clean = False
        try:
            async with asyncio.timeout(timeout_s):
                client = await self._connected()
                answer = await _request(client, block)
            clean = True
        except TimeoutError as exc:
            if self._client is None:
                raise NoConnection(f"no connection to {self._host}:{self._port} in time") from exc
            raise NoAnswer("no answer in time") from exc
        finally:
            if not clean:
                self.close()
        return _content(answer, block)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def _connected(self) -> AsyncModbusTcpClient:
        if self._client is not None and self._client.connected:
            return self._client
        # A device that takes one client at a time needs a moment to let go of the last one.
        pauses = [*_REOPENING_PAUSES_S] if self._was_open else []
        self._client, self._was_open = None, False
        while self._client is None:
            try:
                self._client = await _connect(self._host, self._port)
            except OSError as exc:
                if not pauses:
                    raise NoConnection(f"no connection to {self._host}:{self._port}: {exc}") from exc
                await asyncio.sleep(pauses.pop(0))
        self._was_open = True
        return self._client


async def _connect(host: str, port: int) -> AsyncModbusTcpClient:
    """A new connected client; raises OSError."""
    from pymodbus.client import AsyncModbusTcpClient  # noqa: PLC0415 - a config is checked without the driver
    from pymodbus.exceptions import ModbusException  # noqa: PLC0415 - as above

    def fail(exc: Exception) -> None:
        waiting = client.ctx.response_future
        if not waiting.done():
            waiting.set_exception(exc)
            waiting.exception()  # perhaps nobody waits: this marks it as seen

    def changed(connected: bool) -> None:  # noqa: FBT001 - pymodbus calls it so
        # pymodbus lets a request wait for its time-out after the connection is gone; we want to know at once.
        if not connected:
            fail(ConnectionResetError("the device closed the connection"))

    def received(data: bytes, addr: tuple[str, int] | None = None) -> int:
        # What pymodbus cannot decode it raises into the event loop, which logs it as our own error.
        try:
            return decoded(data, addr)
        except (ModbusException, ValueError, IndexError, struct.error) as exc:
            fail(ModbusException(f"{data[:20].hex(' ')} is no answer: {exc}"))
            return len(data)

    client = AsyncModbusTcpClient(host, port=port, retries=0, reconnect_delay=0, timeout=3600, trace_connect=changed)
    decoded = client.ctx.callback_data
    client.ctx.callback_data = received  # type: ignore[method-assign]  # it offers no hook for this
    # Not client.connect(): that one swallows the reason. Our own time-out stands around it.
    await client.ctx.call_create()
    return client


async def _request(client: AsyncModbusTcpClient, block: Block) -> ModbusPDU:
    from pymodbus.exceptions import ModbusException  # noqa: PLC0415 - a config is checked without the driver

    reads = {
        "coil": client.read_coils,
        "discrete": client.read_discrete_inputs,
        "holding": client.read_holding_registers,
        "input": client.read_input_registers,
    }
    try:
        return await reads[block.table](block.address, count=block.count, device_id=block.unit_id)
    except (ModbusException, OSError) as exc:
        raise NoAnswer(str(exc)) from exc


def _content(answer: ModbusPDU, block: Block) -> Sequence[int] | Sequence[bool]:
    if answer.isError():
        raise Refusal(answer.exception_code)
    if answer.function_code != _FUNCTIONS[block.table]:
        raise NoAnswer(f"asked by function {_FUNCTIONS[block.table]}, answered by {answer.function_code}")
    content: Sequence[int] | Sequence[bool] = answer.registers or answer.bits
    if len(content) < block.count:
        raise NoAnswer(f"{block.count} asked for, {len(content)} answered")
    return content
