"""Reading from real servers: what is asked, and what comes of each kind of answer."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType as SimType
from pymodbus.simulator import SimData, SimDevice

from contract.sparkplug import Quality

if TYPE_CHECKING:
    from edge.reading import Reading


CODES = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}


def as_registers(raw: bytes, byte_order: str, word_order: str) -> list[int]:
    """Registers of a device that keeps a big-endian value in these orders, written the slow way."""
    words = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    if word_order == "little":
        words.reverse()
    if byte_order == "little":
        words = [word[::-1] for word in words]
    return [word[0] * 256 + word[1] for word in words]


# A line: a Modbus TCP server of which a test decides every answer


def test_all_types_from_a_pymodbus_server(kit: Any) -> None:
    values = {
        "int16": -1234,
        "uint16": 65_000,
        "int32": -(2**31),
        "uint32": 2**32 - 1,
        "int64": -(2**63),
        "uint64": 2**64 - 1,
        "float32": 1.5,
        "float64": 0.1,
    }
    raw = b"".join(struct.pack(f">{CODES[datatype]}", value) for datatype, value in values.items()) + b"PUMP-7\0\0"
    points, address = [], 100
    for datatype in values:
        points.append({"name": datatype, "table": "holding", "address": address, "datatype": datatype})
        address += struct.calcsize(CODES[datatype]) // 2
    points.append({"name": "string", "table": "holding", "address": address, "datatype": "string", "length": 4})
    points += [{"name": f"coil{a}", "table": "coil", "address": a, "datatype": "bool"} for a in range(3)]
    points += [{"name": "level", "table": "input", "address": 5, "datatype": "uint16", "scale": 0.1, "offset": -40}]
    points += [{"name": "valve", "table": "discrete", "address": 9, "datatype": "bool"}]
    points += [{"name": "alarm", "table": "input", "address": 5, "datatype": "bool", "bit": 3}]
    device = SimDevice(
        3,
        (
            [SimData(0, values=[True, False, True], datatype=SimType.BITS)],
            [SimData(9, values=[True], datatype=SimType.BITS)],
            [SimData(100, values=as_registers(raw, "big", "big"), datatype=SimType.REGISTERS)],
            [SimData(5, values=[0x0218], datatype=SimType.REGISTERS)],
        ),
    )

    async def poll() -> list[Reading]:
        server = ModbusTcpServer([device], address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        try:
            port = server.transport.sockets[0].getsockname()[1]
            async with kit.config(port, [{"unit_id": 3, "points": points}]).open(kit.now) as source:
                return await source.poll()
        finally:
            await server.shutdown()

    readings = asyncio.run(poll())
    more = {"string": "PUMP-7", "coil0": True, "coil1": False, "coil2": True, "valve": True, "alarm": True}
    assert kit.shown(readings) == values | more | {"level": 0x218 * 0.1 + -40.0}
    assert all(r.quality == Quality.GOOD for r in readings)


def test_a_block_is_one_request_and_its_readings_have_one_time(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a * 10 for a in range(10)}
        config = kit.config(line, kit.units(u1=kit.points))
        async with config.open(kit.now) as source:
            before = kit.now()
            readings = await source.poll()
            assert kit.shown(readings) == {"p0": 0, "p1": 10, "p2": 20, "p3": 30}
            assert len({r.sampled_at_ms for r in readings}) == 1
            assert before <= readings[0].sampled_at_ms <= kit.now()
            await source.poll()
        assert line.requests == [(1, 4, 0, 4)] * 2
        assert line.connections == 1
        assert [m.name for m in config.metrics()] == ["p0", "p1", "p2", "p3"]

    kit.on_line(test)


def test_the_time_of_a_reading_is_that_of_its_own_answer(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = line.units[2] = {0: 5}

        async def slowly(unit: int, function: int, address: int, count: int) -> bytes | None:
            await asyncio.sleep(0.1 * unit)
            return await line.honest(unit, function, address, count)

        line.answer = slowly
        of_units = kit.units(u1=[{"name": "a", "address": 0}], u2=[{"name": "b", "address": 0}])
        async with kit.config(line, of_units, request_timeout_s=1).open(kit.now) as source:
            a, b = await source.poll()
        assert b.sampled_at_ms - a.sampled_at_ms >= 190
        assert line.most_at_once == 1

    kit.on_line(test)


@pytest.mark.parametrize(("code", "words"), [(6, "device busy"), (4, "device failure"), (1, "illegal function")])
def test_an_exception_spoils_its_block_alone_and_is_told_once(
    kit: Any, code: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(line: Any) -> None:
        line.units[1] = dict.fromkeys(range(60), 7)
        busy = True

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            if busy and address == 50:
                return bytes([function | 0x80, code])
            return await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u1=[*kit.points, {"name": "far", "address": 50}, {"name": "far2", "address": 51}])
        async with kit.config(line, of_units).open(kit.now) as source:
            expected = dict.fromkeys(["p0", "p1", "p2", "p3"], 7) | {"far": "bad", "far2": "bad"}
            for _ in range(3 if code == 6 else 1):
                assert kit.shown(await source.poll()) == expected
            busy = False
            assert kit.shown(await source.poll()) == dict.fromkeys(expected, 7)
        assert line.connections == 1

    with caplog.at_level("INFO"):
        kit.on_line(test)
    assert kit.told(caplog) == [
        f"plant: modbus LINE unit 1 input 50-51 (far and 1 more): {words} (exception {code})",
        "plant: modbus LINE unit 1 input 50-51 (far and 1 more) reads again",
    ]


def test_a_unit_that_is_busy_as_a_whole_is_told_in_one_line(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Any) -> None:
        async def busy(unit: int, function: int, address: int, count: int) -> bytes | None:
            del unit, address, count
            return bytes([function | 0x80, 6])

        line.answer = busy
        of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in (0, 50, 100)])
        async with kit.config(line, of_units).open(kit.now) as source:
            assert set(kit.shown(await source.poll()).values()) == {"bad"}
            line.answer, line.units[1] = line.honest, dict.fromkeys((0, 50, 100), 1)
            assert set(kit.shown(await source.poll()).values()) == {1}

    with caplog.at_level("INFO"):
        kit.on_line(test)
    assert kit.told(caplog) == [
        "plant: modbus LINE unit 1: device busy (exception 6)",
        "plant: modbus LINE unit 1 reads again",
    ]


@pytest.mark.parametrize(
    "lie",
    [
        bytes([4, 2, 0, 9]),  # one register of two
        bytes([3, 4, 0, 9, 0, 9]),  # of another function
        bytes([4, 200, 0, 9]),  # a byte count that is not true
    ],
    ids=["short", "function", "count"],
)
def test_an_answer_that_does_not_fit_is_no_value(kit: Any, lie: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1, 1: 2, 50: 3}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return lie if address == 0 else await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in (0, 1, 50)])
        async with kit.config(line, of_units).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"p0": "bad", "p1": "bad", "p50": 3}

    kit.on_line(test)
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_a_register_that_is_not_a_number_is_bad_and_its_neighbour_good(
    kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 0x7FC0, 1: 0, 2: 0x3F80, 3: 0}
        points = [
            {"name": "nan", "address": 0, "datatype": "float32"},
            {"name": "one", "address": 2, "datatype": "float32"},
        ]
        async with kit.config(line, kit.units(u1=points)).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"nan": "bad", "one": 1.0}

    kit.on_line(test)
    assert "unit 1 input 0 (nan): holds nan, which is not a number" in caplog.text
