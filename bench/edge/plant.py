"""A Modbus TCP server that costs next to nothing: registers never change, answers are cut out of one byte string."""

from __future__ import annotations

import asyncio
import struct
import threading
from typing import TYPE_CHECKING, Final

from bench.edge.layout import POINTS

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_HEADER: Final = struct.Struct(">HHHBBHH")  # transaction, protocol, length, unit, function, address, count
_CODES: Final = {"uint16": ">H", "int32": ">i", "float32": ">f"}


class Plant:
    """Serves while entered, from a thread of its own; `requests` counts what was asked."""

    def __init__(self) -> None:
        self.requests = 0
        self.port = 0
        self._memory = _memory()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="plant")

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await self._loop.create_server(lambda: _Session(self), "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _close(self) -> None:
        self._server.close()

    def answer(self, request: bytes) -> bytes:
        """The answer to a read of holding registers."""
        self.requests += 1
        transaction, _, _, unit, function, address, count = _HEADER.unpack(request)
        data = self._memory[2 * address : 2 * (address + count)]
        return struct.pack(">HHHBBB", transaction, 0, 3 + len(data), unit, function, len(data)) + data


class _Session(asyncio.Protocol):
    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= _HEADER.size:
            request, self._waiting = self._waiting[: _HEADER.size], self._waiting[_HEADER.size :]
            self._transport.write(self._plant.answer(request))


def _memory() -> bytes:
    memory = bytearray(2 * 1024)
    for point in POINTS:
        struct.pack_into(_CODES[point.datatype], memory, 2 * point.address, point.address)
    return bytes(memory)
