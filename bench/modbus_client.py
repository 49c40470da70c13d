"""What a Modbus TCP request costs the device's CPU: our client beside pymodbus, on the same server in turn.

    python -m bench.modbus_client [--rounds 9] [--requests 2000]

CPU time of this process alone; the server, a loop around a socket, is another. 100 registers a request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import socket
import statistics
import struct
import time
from typing import TYPE_CHECKING

from pymodbus.client import AsyncModbusTcpClient

from edge.sources.modbus import ModbusConfig
from edge.sources.modbus.framing import read_request
from edge.sources.modbus.line import ModbusLine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from multiprocessing.synchronize import Event

COUNT, UNITS = 100, 10


def serve(listening: socket.socket, stop: Event) -> None:
    """Answers every read with as many registers as it asks for."""
    listening.settimeout(0.2)
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            connection, _ = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while request := connection.recv(300):
                transaction, _, _, unit, function, _, count = struct.unpack(">HHHBBHH", request)
                head = struct.pack(">HHHBBB", transaction, 0, 3 + 2 * count, unit, function, 2 * count)
                connection.sendall(head + bytes(2 * count))


def plan(port: int) -> ModbusConfig:
    """1,000 points over 10 units, a request each."""
    numbers = {"table": "holding", "datatype": "uint16"}
    units = [
        {"unit_id": unit, "points": [numbers | {"name": f"{unit}/{at}", "address": at} for at in range(COUNT)]}
        for unit in range(1, UNITS + 1)
    ]
    document = {"type": "modbus", "name": "plant", "interval_s": 1, "host": "127.0.0.1", "port": port, "units": units}
    return ModbusConfig.model_validate(document)


async def cpu_us(ask: Callable[[], Awaitable[object]], times: int) -> float:
    """CPU time of one of so many, in microseconds."""
    before = time.process_time()
    for _ in range(times):
        await ask()
    return (time.process_time() - before) / times * 1e6


async def compare(port: int, rounds: int, requests: int) -> dict[str, list[float]]:
    """A figure a round of each."""
    config = plan(port)
    line, request = ModbusLine(config), read_request(1, "holding", 0, COUNT)
    theirs = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0)
    figures: dict[str, list[float]] = {"a request, ours": [], "a request, pymodbus": [], "a poll of 1,000 points": []}
    for _ in range(rounds):
        # One after the other: the server takes one client at a time.
        await line.read(request, 5)
        figures["a request, ours"].append(await cpu_us(lambda: line.read(request, 5), requests))
        line.release()
        await theirs.connect()
        figures["a request, pymodbus"].append(
            await cpu_us(lambda: theirs.read_holding_registers(0, count=COUNT, device_id=1), requests)
        )
        theirs.close()
        async with config.open(lambda: time.time_ns() // 1_000_000) as source:
            await source.poll()
            figures["a poll of 1,000 points"].append(await cpu_us(source.poll, requests // UNITS))
    line.close()
    return figures


def main() -> None:
    """Prints the median and the range of each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="times that each is measured (9)")
    parser.add_argument("--requests", type=int, default=2000, help="requests in a round (2000)")
    arguments = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = multiprocessing.Event()
        server = multiprocessing.Process(target=serve, args=(listening, stop), daemon=True)
        server.start()
        figures = asyncio.run(compare(listening.getsockname()[1], arguments.rounds, arguments.requests))
        stop.set()
        server.join()
    for what, us in figures.items():
        print(f"{what:24} {statistics.median(us):7.1f} us   {min(us):.1f} to {max(us):.1f}")


if __name__ == "__main__":
    main()
