"""The Modbus source: the line against real servers, good and bad."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType as SimType
from pymodbus.simulator import SimData, SimDevice

from contract.config import ConfigError, parse_config
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.sources import ModbusConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from edge.reading import Reading
    from edge.sources.modbus import ModbusSource

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


class Line:
    """Answers reads from `units`; `answers` may say something else for a request (unit, function, address, count)."""

    def __init__(self) -> None:
        self.units: dict[int, dict[int, int]] = defaultdict(dict)
        self.answer: Callable[[int, int, int, int], Awaitable[bytes | None]] = self.honest
        self.requests: list[tuple[int, int, int, int]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.connections = 0
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def honest(self, unit: int, function: int, address: int, count: int) -> bytes | None:
        """Registers 4 and 3 alike, bits from their parity; an address that is not there is illegal."""
        held = self.units[unit]
        wanted = range(address, address + count)
        if any(a not in held for a in wanted):
            return bytes([function | 0x80, 2])
        if function in {1, 2}:
            bits = sum((held[a] & 1) << i for i, a in enumerate(wanted))
            body = bits.to_bytes(-(-count // 8), "little")
        else:
            body = b"".join(struct.pack(">H", held[a]) for a in wanted)
        return bytes([function, len(body)]) + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        replies: set[asyncio.Task[None]] = set()
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                header = await reader.readexactly(12)
                replies.add(asyncio.create_task(self._reply(header, writer)))
        for reply in replies:
            reply.cancel()
        writer.close()

    async def _reply(self, header: bytes, writer: asyncio.StreamWriter) -> None:
        tid, _, _, unit, function, address, count = struct.unpack(">HHHBBHH", header)
        self.requests.append((unit, function, address, count))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            pdu = await self.answer(unit, function, address, count)
        finally:
            self.at_once -= 1
        if pdu is not None:
            writer.write(struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu)


@asynccontextmanager
async def a_line(port: int = 0) -> AsyncIterator[Line]:
    line = Line()
    server = await asyncio.start_server(line.serve, "127.0.0.1", port)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        for writer in line.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def units(**points_of: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """units(u1=[...], u2=[...]) as the configuration has them."""
    base = {"table": "input", "datatype": "uint16"}
    return [{"unit_id": int(key[1:]), "points": [base | p for p in points]} for key, points in points_of.items()]


def line_config(port: int, of_units: list[dict[str, Any]], **options: Any) -> ModbusConfig:
    document: dict[str, Any] = {"type": "modbus", "name": "plant", "interval_s": 1, "timeout_s": 2}
    document |= {"request_timeout_s": 0.2, "host": "127.0.0.1", "port": port, "units": of_units}
    return ModbusConfig.model_validate(document | options)


def agent_now() -> int:
    return time.time_ns() // 1_000_000


def shown(readings: list[Reading]) -> dict[str, Any]:
    """Values by metric; bad ones as "bad"."""
    for reading in readings:
        assert (reading.value is None) == (reading.quality == Quality.BAD)
    return {r.metric: "bad" if r.quality == Quality.BAD else r.value for r in readings}


def on_line(test: Callable[[Line], Awaitable[None]]) -> None:
    """Runs a test on a line of its own; nothing may be left running."""

    async def run() -> None:
        async with a_line() as line:
            await test(line)

    asyncio.run(run())


POINTS = [{"name": f"p{a}", "address": a} for a in range(4)]


def test_all_types_from_a_pymodbus_server() -> None:
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
            async with line_config(port, [{"unit_id": 3, "points": points}]).open(agent_now) as source:
                return await source.poll()
        finally:
            await server.shutdown()

    readings = asyncio.run(poll())
    more = {"string": "PUMP-7", "coil0": True, "coil1": False, "coil2": True, "valve": True, "alarm": True}
    assert shown(readings) == values | more | {"level": 0x218 * 0.1 + -40.0}
    assert all(r.quality == Quality.GOOD for r in readings)


def test_a_block_is_one_request_and_its_readings_have_one_time() -> None:
    async def test(line: Line) -> None:
        line.units[1] = {a: a * 10 for a in range(10)}
        config = line_config(line.port, units(u1=POINTS))
        async with config.open(agent_now) as source:
            before = agent_now()
            readings = await source.poll()
            assert shown(readings) == {"p0": 0, "p1": 10, "p2": 20, "p3": 30}
            assert len({r.sampled_at_ms for r in readings}) == 1
            assert before <= readings[0].sampled_at_ms <= agent_now()
            await source.poll()
        assert line.requests == [(1, 4, 0, 4)] * 2
        assert line.connections == 1
        assert [m.name for m in config.metrics()] == ["p0", "p1", "p2", "p3"]

    on_line(test)


def test_the_time_of_a_reading_is_that_of_its_own_answer() -> None:
    async def test(line: Line) -> None:
        line.units[1] = line.units[2] = {0: 5}

        async def slowly(unit: int, function: int, address: int, count: int) -> bytes | None:
            await asyncio.sleep(0.1 * unit)
            return await line.honest(unit, function, address, count)

        line.answer = slowly
        of_units = units(u1=[{"name": "a", "address": 0}], u2=[{"name": "b", "address": 0}])
        async with line_config(line.port, of_units, request_timeout_s=1).open(agent_now) as source:
            a, b = await source.poll()
        assert b.sampled_at_ms - a.sampled_at_ms >= 190
        assert line.most_at_once == 1

    on_line(test)


@pytest.mark.parametrize(("code", "words"), [(6, "device busy"), (4, "device failure"), (1, "illegal function")])
def test_an_exception_spoils_its_block_alone_and_is_told_once(
    code: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(line: Line) -> None:
        line.units[1] = dict.fromkeys(range(60), 7)
        busy = True

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            if busy and address == 50:
                return bytes([function | 0x80, code])
            return await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = units(u1=[*POINTS, {"name": "far", "address": 50}, {"name": "far2", "address": 51}])
        async with line_config(line.port, of_units).open(agent_now) as source:
            for _ in range(3):
                assert shown(await source.poll()) == dict.fromkeys(["p0", "p1", "p2", "p3"], 7) | {
                    "far": "bad",
                    "far2": "bad",
                }
            busy = False
            assert shown(await source.poll())["far"] == 7
        assert line.connections == 1

    with caplog.at_level("INFO"):
        on_line(test)
    assert [r.getMessage() for r in caplog.records] == [
        f"plant: unit 1 input 50-51 (far and 1 more): {words} (exception {code})",
        "plant: unit 1 input 50-51 (far and 1 more) reads again",
    ]


def test_a_unit_that_is_busy_as_a_whole_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Line) -> None:
        async def busy(unit: int, function: int, address: int, count: int) -> bytes | None:
            del unit, address, count
            return bytes([function | 0x80, 6])

        line.answer = busy
        of_units = units(u1=[{"name": f"p{a}", "address": a} for a in (0, 50, 100)])
        async with line_config(line.port, of_units).open(agent_now) as source:
            assert set(shown(await source.poll()).values()) == {"bad"}
            line.answer, line.units[1] = line.honest, dict.fromkeys((0, 50, 100), 1)
            assert set(shown(await source.poll()).values()) == {1}

    with caplog.at_level("INFO"):
        on_line(test)
    assert [r.getMessage() for r in caplog.records] == [
        "plant: unit 1: device busy (exception 6)",
        "plant: unit 1 reads again",
    ]


def test_an_illegal_address_costs_one_point_and_the_split_is_remembered() -> None:
    async def test(line: Line) -> None:
        line.units[1] = {a: a for a in range(20) if a != 11}
        points = [{"name": f"p{a}", "address": a} for a in range(20)]
        async with line_config(line.port, units(u1=points)).open(agent_now) as source:
            expected = {f"p{a}": a for a in range(20)} | {"p11": "bad"}
            assert shown(await source.poll()) == expected
            first = len(line.requests)
            assert shown(await source.poll()) == expected
        second = line.requests[first:]
        assert len(second) < first
        assert (1, 4, 11, 1) in second
        assert (1, 4, 0, 20) not in second

    on_line(test)


def test_a_split_is_mended_when_the_address_is_legal_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.sources.modbus.unit._MEND_S", 0.1)

    async def test(line: Line) -> None:
        points = [{"name": f"p{a}", "address": a} for a in range(20)]
        async with line_config(line.port, units(u1=points)).open(agent_now) as source:
            assert set(shown(await source.poll()).values()) == {"bad"}
            line.units[1] = {a: a for a in range(20)}
            deadline = time.monotonic() + 5
            while line.requests[-1] != (1, 4, 0, 20):
                assert time.monotonic() < deadline
                assert shown(await source.poll()) == {f"p{a}": a for a in range(20)}

    on_line(test)


def test_an_illegal_address_in_a_gap_costs_no_point() -> None:
    async def test(line: Line) -> None:
        line.units[1] = {0: 1, 3: 4}
        of_units = units(u1=[{"name": "a", "address": 0}, {"name": "b", "address": 3}])
        async with line_config(line.port, of_units).open(agent_now) as source:
            assert shown(await source.poll()) == {"a": 1, "b": 4}

    on_line(test)


def test_a_dead_unit_spoils_nothing_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Line) -> None:
        line.units[1] = line.units[3] = {0: 5}
        dead = True

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return None if dead and unit == 2 else await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = units(
            u2=[{"name": "b0", "address": 0}, {"name": "b1", "address": 40}, {"name": "b2", "address": 80}],
            u1=[{"name": "a", "address": 0}],
            u3=[{"name": "c", "address": 0}],
        )
        async with line_config(line.port, of_units, interval_s=0.1).open(agent_now) as source:
            for _ in range(4):
                assert shown(await source.poll()) == {"b0": "bad", "b1": "bad", "b2": "bad", "a": 5, "c": 5}
            # Two time-outs at first, then one, then it is asked less often than it is polled.
            assert 3 <= sum(unit == 2 for unit, *_ in line.requests) <= 5
            dead, line.units[2] = False, dict.fromkeys((0, 40, 80), 9)
            await until(source, "b0", 9)

    with caplog.at_level("INFO"):
        on_line(test)
    assert [r.getMessage() for r in caplog.records] == [
        "plant: unit 2: input 0 (b0): no answer in time",
        "plant: unit 2 reads again",
    ]


async def until(source: ModbusSource, metric: str, value: object) -> None:
    """Polls until a metric has a value."""
    deadline = time.monotonic() + 5
    while shown(await source.poll())[metric] != value:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def test_many_dead_units_leave_time_for_the_living_one() -> None:
    async def test(line: Line) -> None:
        line.units[9] = {0: 5}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return await line.honest(unit, function, address, count) if unit == 9 else None

        line.answer = answer
        of_units = units(**{f"u{u}": [{"name": f"p{u}", "address": 0}] for u in range(1, 10)})
        config = line_config(line.port, of_units, timeout_s=1)
        async with config.open(agent_now) as source:
            # Eight time-outs stand before it at first; then it comes before them.
            assert shown(await source.poll())["p9"] == "bad"
            for _ in range(2):
                started = time.monotonic()
                assert shown(await source.poll()) == {f"p{u}": "bad" for u in range(1, 9)} | {"p9": 5}
                assert time.monotonic() - started < 1

    on_line(test)


def test_a_block_that_times_out_costs_its_points_alone() -> None:
    async def test(line: Line) -> None:
        line.units[1] = dict.fromkeys(range(200), 1)

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return None if address == 50 else await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = units(u1=[{"name": f"p{a}", "address": a} for a in (0, 50, 100)])
        async with line_config(line.port, of_units).open(agent_now) as source:
            for _ in range(2):
                assert shown(await source.poll()) == {"p0": 1, "p50": "bad", "p100": 1}

    on_line(test)


def test_a_late_answer_is_never_taken_for_a_current_one() -> None:
    async def test(line: Line) -> None:
        line.units[1] = {0: 1, 50: 2}
        late = True

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            pdu = await line.honest(unit, function, address, count)
            if late and address == 0:
                await asyncio.sleep(0.3)  # after the time-out, in the time of the next request
            elif late:
                await asyncio.sleep(0.15)
            return pdu

        line.answer = answer
        of_units = units(u1=[{"name": "a", "address": 0}, {"name": "b", "address": 50}])
        async with line_config(line.port, of_units).open(agent_now) as source:
            assert shown(await source.poll()) == {"a": "bad", "b": 2}
            assert line.connections == 2
            late = False
            assert shown(await source.poll()) == {"a": 1, "b": 2}

    on_line(test)


def test_a_poll_that_is_cancelled_leaves_no_answer_for_the_next() -> None:
    async def test(line: Line) -> None:
        line.units[1] = {0: 1}
        delay_s = 0.2

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            pdu = await line.honest(unit, function, address, count)
            await asyncio.sleep(delay_s)
            return pdu

        line.answer = answer
        of_units = units(u1=[{"name": "a", "address": 0}])
        async with line_config(line.port, of_units, request_timeout_s=1).open(agent_now) as source:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.poll(), 0.1)
            line.units[1][0], delay_s = 2, 0.0
            assert shown(await source.poll()) == {"a": 2}
        assert line.connections == 2

    on_line(test)


def test_nothing_answers_names_line_unit_and_address() -> None:
    async def test(line: Line) -> None:
        async def silence(unit: int, function: int, address: int, count: int) -> bytes | None:
            del unit, function, address, count
            return None

        line.answer = silence
        async with line_config(line.port, units(u5=POINTS)).open(agent_now) as source:
            with pytest.raises(SourceError) as caught:
                await source.poll()
        text = f"modbus 127.0.0.1:{line.port}: nothing answered; unit 5: input 0-3 (p0 and 3 more): no answer in time"
        assert str(caught.value) == text

    on_line(test)


def test_a_line_that_is_down_is_named_and_found_again() -> None:
    async def down_then_up() -> None:
        async with a_line() as gone:
            port = gone.port
        async with line_config(port, units(u1=POINTS, u2=[{"name": "x", "address": 0}])).open(agent_now) as source:
            with pytest.raises(SourceError, match=f"unit 1.*no connection to 127.0.0.1:{port}.*Connect call failed"):
                await source.poll()
            async with a_line(port) as line:
                line.units[1] = line.units[2] = dict.fromkeys(range(4), 3)
                assert set(shown(await source.poll()).values()) == {3}

    asyncio.run(down_then_up())


def test_a_connection_cut_by_the_device_is_noticed_at_once_and_opened_again() -> None:
    async def test(line: Line) -> None:
        line.units[1] = {0: 1, 50: 2}
        cut = True

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            nonlocal cut
            if cut and address == 0:
                cut = False
                line.writers[-1].transport.abort()
                return None
            return await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = units(u1=[{"name": "a", "address": 0}, {"name": "b", "address": 50}])
        async with line_config(line.port, of_units, request_timeout_s=1.5).open(agent_now) as source:
            started = time.monotonic()
            assert shown(await source.poll()) == {"a": "bad", "b": 2}
            assert time.monotonic() - started < 1
            assert shown(await source.poll()) == {"a": 1, "b": 2}

    on_line(test)


@pytest.mark.parametrize(
    "lie",
    [
        bytes([4, 2, 0, 9]),  # one register of two
        bytes([3, 4, 0, 9, 0, 9]),  # of another function
        bytes([4, 200, 0, 9]),  # a byte count that is not true
    ],
    ids=["short", "function", "count"],
)
def test_an_answer_that_does_not_fit_is_no_value(lie: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Line) -> None:
        line.units[1] = {0: 1, 1: 2, 50: 3}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return lie if address == 0 else await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = units(u1=[{"name": f"p{a}", "address": a} for a in (0, 1, 50)])
        async with line_config(line.port, of_units).open(agent_now) as source:
            assert shown(await source.poll()) == {"p0": "bad", "p1": "bad", "p50": 3}

    on_line(test)
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_a_register_that_is_not_a_number_is_bad_and_its_neighbour_good(caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Line) -> None:
        line.units[1] = {0: 0x7FC0, 1: 0, 2: 0x3F80, 3: 0}
        points = [
            {"name": "nan", "address": 0, "datatype": "float32"},
            {"name": "one", "address": 2, "datatype": "float32"},
        ]
        async with line_config(line.port, units(u1=points)).open(agent_now) as source:
            assert shown(await source.poll()) == {"nan": "bad", "one": 1.0}

    on_line(test)
    assert "unit 1 input 0 (nan): holds nan, which is not a number" in caplog.text


# Configurations


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"units": units(u1=POINTS, u2=POINTS)}, "point name p0 stands here twice"),
        ({"units": units(u1=POINTS) * 2}, "unit_id 1 stands here twice"),
        ({"units": []}, "units"),
        (
            {"max_registers": 1, "units": units(u1=[{"name": "f", "address": 0, "datatype": "float32"}])},
            "max_registers",
        ),
    ],
)
def test_wrong_lines(change: dict[str, Any], complaint: str) -> None:
    document = {"type": "modbus", "name": "plant", "interval_s": 1, "host": "h", "units": units(u1=POINTS)} | change
    with pytest.raises(ConfigError, match=complaint):
        parse_config(document, ModbusConfig, "edge.yaml")
