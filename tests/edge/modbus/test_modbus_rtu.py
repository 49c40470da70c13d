"""RTU: on a serial port (a pty) and through a TCP port; what a time-out leaves behind; pauses and silences."""

from __future__ import annotations

import asyncio
import select
import time
from itertools import pairwise
from typing import Any

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.errors import SourceError
from edge.sources.modbus.transport import SerialPort


@pytest.fixture(params=["serial", "rtu_over_tcp"])
def rtu(request: pytest.FixtureRequest, kit: Any) -> Any:
    """Runs a test on an RTU line of either kind; the source's options are beside it."""
    if request.param == "serial":
        return kit.on_serial_line, {}
    return lambda test: kit.on_line(test, rtu=True), {"transport": "rtu_over_tcp"}


def test_coils_and_registers_of_two_units(kit: Any, rtu: Any) -> None:
    on_line, options = rtu

    async def test(line: Any) -> None:
        line.units[1] = {a: a * 3 for a in range(20)}
        line.units[2] = {a: a % 3 for a in range(20)}
        of_units = kit.units(
            u1=[{"name": f"r{a}", "address": a} for a in range(20)],
            u2=[{"name": f"c{a}", "address": a, "table": "coil", "datatype": "bool"} for a in range(20)],
        )
        expected = {f"r{a}": a * 3 for a in range(20)} | {f"c{a}": a % 3 == 1 for a in range(20)}
        async with kit.config(line, of_units, **options).open(kit.now) as source:
            for _ in range(3):
                assert kit.shown(await source.poll()) == expected
            assert source.details()["skipped_frames"] == 0
        assert line.requests == [(1, 4, 0, 20), (2, 1, 0, 20)] * 3
        assert line.most_at_once == line.connections == 1

    on_line(test)


def test_a_pymodbus_server_understands_our_rtu(kit: Any) -> None:
    registers = [SimData(0, values=[7, 8, 9], datatype=DataType.REGISTERS)]

    async def poll() -> Any:
        server = ModbusTcpServer([SimDevice(3, registers)], framer=FramerType.RTU, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        try:
            port = server.transport.sockets[0].getsockname()[1]
            of_units = kit.units(
                u3=[
                    {"name": f"p{a}", "address": a, "write": {"min": 0, "max": 99}, "table": "holding"}
                    for a in range(3)
                ]
            )
            async with kit.config(port, of_units, transport="rtu_over_tcp", request_timeout_s=1).open(
                kit.now
            ) as source:
                written = await source.write("p1", 42)
                return written.value, kit.shown(await source.poll())
        finally:
            await server.shutdown()

    assert asyncio.run(poll()) == (42, {"p0": 7, "p1": 42, "p2": 9})


@pytest.mark.parametrize("late_s", [0.25, 0.4])
def test_a_late_answer_is_waited_for_and_not_taken(kit: Any, rtu: Any, late_s: float) -> None:
    on_line, options = rtu

    async def test(line: Any) -> None:
        line.units[1] = {0: 1}

        async def late(unit: int, function: int, address: int, count: int) -> bytes | None:
            stale = await line.honest(unit, function, address, count)
            line.answer = line.honest
            await asyncio.sleep(late_s)
            line.units[1][0] = 2
            return stale

        line.answer = late
        of_units = kit.units(u1=[{"name": "a", "address": 0}])
        async with kit.config(line, of_units, **options).open(kit.now) as source:
            with pytest.raises(SourceError, match="no answer in time"):
                await source.poll()
            # Of the same shape as the one that is late.
            assert kit.shown(await source.poll()) == {"a": 2}
        assert len(line.requests) == 2

    on_line(test)


def test_a_poll_that_is_cancelled_leaves_no_answer_for_the_next(kit: Any, rtu: Any) -> None:
    on_line, options = rtu

    async def test(line: Any) -> None:
        line.units[1] = {0: 1}

        async def slow(unit: int, function: int, address: int, count: int) -> bytes | None:
            stale = await line.honest(unit, function, address, count)
            await asyncio.sleep(0.15)
            line.answer, line.units[1][0] = line.honest, 2
            return stale

        line.answer = slow
        of_units = kit.units(u1=[{"name": "a", "address": 0}])
        async with kit.config(line, of_units, request_timeout_s=1, **options).open(kit.now) as source:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.poll(), 0.1)
            assert kit.shown(await source.poll()) == {"a": 2}

    on_line(test)


def test_the_line_is_free_as_soon_as_the_late_answer_has_come(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = line.units[2] = {0: 1}

        async def late(unit: int, function: int, address: int, count: int) -> bytes | None:
            if unit == 1:
                await asyncio.sleep(0.25)
            return await line.honest(unit, function, address, count)

        line.answer = late
        of_units = kit.units(u1=[{"name": "a", "address": 0}], u2=[{"name": "b", "address": 0}])
        async with kit.config(line, of_units, timeout_s=30, late_answer_s=20).open(kit.now) as source:
            started = time.monotonic()
            assert kit.shown(await source.poll()) == {"a": "bad", "b": 1}
            assert time.monotonic() - started < 5
            assert source.details()["skipped_frames"] == 1

    kit.on_serial_line(test)


def test_noise_on_the_line_is_passed_over_and_counted(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1, 1: 2}

        async def noisy(unit: int, function: int, address: int, count: int) -> bytes | None:
            line.send(b"\0\xff\x01\x04\x04")
            return await line.honest(unit, function, address, count)

        line.answer = noisy
        of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in range(2)])
        async with kit.config(line, of_units).open(kit.now) as source:
            for _ in range(3):
                line.send(b"\x55\xaa")
                assert kit.shown(await source.poll()) == {"p0": 1, "p1": 2}
            assert source.details()["skipped_frames"] >= 3

    kit.on_serial_line(test)


def test_a_frame_with_a_wrong_crc_is_no_value(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1}

        async def torn(unit: int, function: int, address: int, count: int) -> bytes | None:
            body = bytes([unit]) + (await line.honest(unit, function, address, count) or b"")
            line.send(body[:-1] + bytes([body[-1] ^ 4]) + kit.crc(body))
            return None

        line.answer = torn
        async with kit.config(line, kit.units(u1=[{"name": "a", "address": 0}])).open(kit.now) as source:
            with pytest.raises(SourceError, match="no answer in time"):
                await source.poll()
            line.answer = line.honest
            assert kit.shown(await source.poll()) == {"a": 1}

    kit.on_serial_line(test)


def test_a_serial_port_is_ours_alone(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1}
        of_units = kit.units(u1=[{"name": "a", "address": 0}])
        async with (
            kit.config(line, of_units).open(kit.now) as source,
            kit.config(line, of_units).open(kit.now) as second,
        ):
            await source.poll()
            with pytest.raises(SourceError, match=f"{line.device} is in use by another program"):
                await second.poll()
        async with kit.config(line, of_units).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"a": 1}

    kit.on_serial_line(test)


def test_a_port_that_is_no_serial_device_or_not_there_is_named(kit: Any, tmp_path: Any) -> None:
    plain = tmp_path / "plain"
    plain.touch()

    async def poll(device: str) -> None:
        document = {"transport": "serial", "device": device, "baudrate": 9600, "host": None, "port": 502}
        async with kit.config(0, kit.units(u1=kit.points), **document).open(kit.now) as source:
            await source.poll()

    with pytest.raises(SourceError, match=f"no connection to {plain}: .*is no serial device"):
        asyncio.run(poll(str(plain)))
    with pytest.raises(SourceError, match=r"modbus .*/none: nothing answered; unit 1: .*No such file"):
        asyncio.run(poll(str(tmp_path / "none")))


@pytest.mark.parametrize(("parity", "stopbits"), [("none", 1), ("even", 1), ("odd", 2)])
def test_a_serial_port_passes_every_byte_as_it_is(kit: Any, parity: Any, stopbits: int) -> None:
    async def test(line: Any) -> None:
        port = SerialPort(line.device, 19_200, parity, stopbits)
        try:
            line.send(bytes(range(256)))
            received = b""
            while len(received) < 256 and select.select([port], [], [], 5)[0]:
                received += port.recv(4096)
            assert received == bytes(range(256))
        finally:
            port.close()

    kit.on_serial_line(test)


def test_an_adapter_that_is_pulled_out_is_found_when_it_is_back(kit: Any, tmp_path: Any) -> None:
    link = tmp_path / "tty"
    of_units = kit.units(u1=[{"name": "a", "address": 0}])
    options = {"transport": "serial", "device": str(link), "baudrate": 115_200, "host": None, "port": 502}

    async def run() -> None:
        async with kit.config(0, of_units, **options).open(kit.now) as source:
            async with kit.serial_line() as line:
                link.symlink_to(line.device)
                line.units[1] = {0: 1}
                assert kit.shown(await source.poll()) == {"a": 1}
            link.unlink()
            with pytest.raises(SourceError):
                await source.poll()
            async with kit.serial_line() as line:
                link.symlink_to(line.device)
                line.units[1] = {0: 2}
                assert kit.shown(await source.poll()) == {"a": 2}

    asyncio.run(run())


@pytest.mark.parametrize(("options", "at_least_s"), [({"baudrate": 1200}, 0.029), ({"pause_s": 0.05}, 0.05)])
def test_the_line_is_silent_before_each_request(kit: Any, options: dict[str, Any], at_least_s: float) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1, 50: 2, 90: 3}
        times = []

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            times.append(time.monotonic())
            return await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in (0, 50, 90)])
        async with kit.config(line, of_units, **options).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"p0": 1, "p50": 2, "p90": 3}
        assert len(times) == 3
        assert min(b - a for a, b in pairwise(times)) >= at_least_s

    kit.on_serial_line(test)
