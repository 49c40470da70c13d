"""A Modbus line of which a test decides every answer, on a socket or on a pty, and what tests of it share."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import struct
import time
import tty
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from contract.sparkplug import Quality
from edge.sources.modbus import ModbusConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from edge.reading import Reading
    from edge.sources.modbus import ModbusSource

    Answer = Callable[[int, int, int, int], Awaitable[bytes | None]]

POINTS = [{"name": f"p{a}", "address": a} for a in range(4)]


def crc(data: bytes) -> bytes:
    """The CRC of RTU as the specification describes it, bit by bit."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value.to_bytes(2, "little")


class Line:
    """Answers from `units`; `answer` may say something else for a request (unit, function, address, count or value)."""

    def __init__(self) -> None:
        self.units: dict[int, dict[int, int]] = defaultdict(dict)
        self.answer: Answer = self.honest
        self.requests: list[tuple[int, int, int, int]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.connections = 0
        self.port = 0
        self.device = ""
        self.writers: list[asyncio.StreamWriter] = []
        self.send: Callable[[bytes], object] = lambda _: None  # RTU: raw bytes to the master

    async def honest(self, unit: int, function: int, address: int, count: int) -> bytes | None:
        """Registers 4 and 3 alike, bits from their parity; an address that is not there is illegal."""
        held = self.units[unit]
        if function in {5, 6}:
            held[address] = count if function == 6 else count >> 8
            return struct.pack(">BHH", function, address, count)
        wanted = range(address, address + count)
        if any(a not in held for a in wanted):
            return bytes([function | 0x80, 2])
        if function in {1, 2}:
            bits = sum((held[a] & 1) << i for i, a in enumerate(wanted))
            body = bits.to_bytes(-(-count // 8), "little")
        else:
            body = b"".join(struct.pack(">H", held[a]) for a in wanted)
        return bytes([function, len(body)]) + body

    def take_many(self, unit: int, pdu: bytes) -> bytes:
        """Functions 15 and 16, in which the values follow."""
        function, address, count, _ = struct.unpack_from(">BHHB", pdu)
        body = pdu[6:]
        for i in range(count):
            self.units[unit][address + i] = (
                body[i // 8] >> i % 8 & 1 if function == 15 else int.from_bytes(body[2 * i : 2 * i + 2], "big")
            )
        return pdu[:5]

    async def pdu_for(self, unit: int, pdu: bytes) -> bytes | None:
        """The answer to a request."""
        function, address, count = struct.unpack_from(">BHH", pdu)
        self.requests.append((unit, function, address, count))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if function in {15, 16}:
                return self.take_many(unit, pdu)
            return await self.answer(unit, function, address, count)
        finally:
            self.at_once -= 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Modbus TCP: every request is answered by itself, so a slow answer delays no other."""
        self.connections += 1
        self.writers.append(writer)
        replies: set[asyncio.Task[None]] = set()
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(7)
                tid, _, length, unit = struct.unpack(">HHHB", head)
                pdu = await reader.readexactly(length - 1)
                replies.add(asyncio.create_task(self._reply(tid, unit, pdu, writer)))
        for reply in replies:
            reply.cancel()
        writer.close()

    async def _reply(self, tid: int, unit: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        pdu = await self.pdu_for(unit, request)
        if pdu is not None:
            writer.write(struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu)

    async def serve_rtu(self, reader: asyncio.StreamReader, write: Callable[[bytes], object]) -> None:
        """RTU: one request after the other, as on a wire."""
        self.connections += 1
        self.send = write
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                frame = await reader.readexactly(7)
                more = frame[6] + 2 if frame[1] in {15, 16} else 1
                frame += await reader.readexactly(more)
                assert crc(frame[:-2]) == frame[-2:]
                pdu = await self.pdu_for(frame[0], frame[1:-2])
                if pdu is not None:
                    write(frame[:1] + pdu + crc(frame[:1] + pdu))


@asynccontextmanager
async def a_line(port: int = 0, *, rtu: bool = False) -> AsyncIterator[Line]:
    """A line on a socket."""
    line = Line()

    async def serve_rtu(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line.writers.append(writer)
        await line.serve_rtu(reader, writer.write)
        writer.close()

    server = await asyncio.start_server(serve_rtu if rtu else line.serve, "127.0.0.1", port)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        for writer in line.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def a_serial_line() -> AsyncIterator[Line]:
    """A line on a pty: `device` is the master's end."""
    line = Line()
    ours, theirs = pty.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)
    line.device = os.ttyname(theirs)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    os.set_blocking(ours, False)
    loop.add_reader(ours, lambda: reader.feed_data(os.read(ours, 4096)))
    line.send = lambda data: os.write(ours, data)
    serving = asyncio.create_task(line.serve_rtu(reader, line.send))
    try:
        yield line
    finally:
        loop.remove_reader(ours)
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        os.close(ours)
        os.close(theirs)


class Kit:
    """What tests of the line share."""

    points = POINTS
    line = staticmethod(a_line)
    serial_line = staticmethod(a_serial_line)
    crc = staticmethod(crc)

    @staticmethod
    def units(**points_of: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """units(u1=[...], u2=[...]) as the configuration has them."""
        base = {"table": "input", "datatype": "uint16"}
        return [{"unit_id": int(key[1:]), "points": [base | p for p in points]} for key, points in points_of.items()]

    @staticmethod
    def config(line: Line | int, of_units: list[dict[str, Any]], **options: Any) -> ModbusConfig:
        """A source on a line (or a TCP port)."""
        document: dict[str, Any] = {"type": "modbus", "name": "plant", "interval_s": 1, "timeout_s": 2}
        document |= {"request_timeout_s": 0.2, "units": of_units}
        if isinstance(line, Line) and line.device:
            document |= {"transport": "serial", "device": line.device, "baudrate": 115_200}
        else:
            document |= {"host": "127.0.0.1", "port": line.port if isinstance(line, Line) else line}
        return ModbusConfig.model_validate(document | options)

    @staticmethod
    def now() -> int:
        """The agent's clock."""
        return time.time_ns() // 1_000_000

    @staticmethod
    def shown(readings: list[Reading]) -> dict[str, Any]:
        """Values by metric; bad ones as "bad"; no metric twice."""
        for reading in readings:
            assert (reading.value is None) == (reading.quality == Quality.BAD)
        assert len({r.metric for r in readings}) == len(readings)
        return {r.metric: "bad" if r.quality == Quality.BAD else r.value for r in readings}

    @staticmethod
    def told(caplog: pytest.LogCaptureFixture) -> list[str]:
        """What was logged, with LINE for the line's changing name."""
        return [re.sub(r"127\.0\.0\.1:\d+", "LINE", record.getMessage()) for record in caplog.records]

    @staticmethod
    async def until(source: ModbusSource, metric: str, value: object) -> None:
        """Polls until a metric has a value."""
        deadline = time.monotonic() + 5
        while Kit.shown(await source.poll())[metric] != value:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    @staticmethod
    def on_line(test: Callable[[Line], Awaitable[None]], **how: Any) -> None:
        """Runs a test on a line of its own."""

        async def run() -> None:
            async with a_line(**how) as line:
                await test(line)

        asyncio.run(run())

    @staticmethod
    def on_serial_line(test: Callable[[Line], Awaitable[None]]) -> None:
        """Runs a test on a serial line of its own."""

        async def run() -> None:
            async with a_serial_line() as line:
                await test(line)

        asyncio.run(run())


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    """See Kit."""
    return Kit
