"""Writes: only where the configuration allows, before the reads that wait, answered with what was read back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edge.errors import SourceError

NUMBER = {"table": "holding", "write": {"min": 0, "max": 100}}
COIL = {"table": "coil", "datatype": "bool", "write": {}}


@pytest.mark.parametrize(
    ("point", "value", "request_", "held"),
    [
        (NUMBER, 42, (1, 6, 5, 42), {5: 42}),
        (NUMBER | {"scale": 0.5}, 21, (1, 6, 5, 42), {5: 42}),
        (NUMBER | {"write": {"min": 0, "max": 100, "multiple": True}}, 42, (1, 16, 5, 1), {5: 42}),
        (NUMBER | {"datatype": "uint32", "word_order": "little"}, 42, (1, 16, 5, 2), {5: 42, 6: 0}),
        (COIL, True, (1, 5, 5, 0xFF00), {5: 255}),
        (COIL, False, (1, 5, 5, 0), {5: 0}),
        (COIL | {"write": {"multiple": True}}, True, (1, 15, 5, 1), {5: 1}),
    ],
)
def test_a_value_is_written_and_read_back(
    kit: Any, point: dict[str, Any], value: Any, request_: Any, held: dict[int, int]
) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {5: 1, 6: 9}
        of_units = kit.units(u1=[point | {"name": "set", "address": 5}])
        async with kit.config(line, of_units).open(kit.now) as source:
            reading = await source.write("set", value)
        assert (reading.metric, reading.value) == ("set", value)
        assert line.requests[0] == request_
        assert line.requests[1][1] in {1, 3}
        assert line.units[1].items() >= held.items()

    kit.on_line(test)


@pytest.mark.parametrize(
    ("metric", "value", "complaint"),
    [
        ("set", 101, "0 to 100"),
        ("set", -1, "0 to 100"),
        ("set", "12", "0 to 100"),
        ("set", True, "0 to 100"),
        ("set", None, "0 to 100"),
        ("fixed", 1, "does not allow"),
        ("unknown", 1, "does not allow"),
    ],
)
def test_what_the_configuration_does_not_allow_is_never_sent(kit: Any, metric: str, value: Any, complaint: str) -> None:
    async def test(line: Any) -> None:
        of_units = kit.units(u1=[NUMBER | {"name": "set", "address": 5}, {"name": "fixed", "address": 6}])
        async with kit.config(line, of_units).open(kit.now) as source:
            with pytest.raises(SourceError, match=complaint):
                await source.write(metric, value)
        assert not line.requests

    kit.on_line(test)


def test_a_write_goes_before_the_reads_that_are_still_to_come(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = dict.fromkeys(range(0, 500, 50), 3)
        line.units[2] = {5: 0}
        started = asyncio.Event()

        async def slow(unit: int, function: int, address: int, count: int) -> bytes | None:
            started.set()
            await asyncio.sleep(0.02)
            return await line.honest(unit, function, address, count)

        line.answer = slow
        of_units = kit.units(
            u1=[{"name": f"p{a}", "address": a} for a in range(0, 500, 50)],
            u2=[NUMBER | {"name": "set", "address": 5}],
        )
        async with kit.config(line, of_units).open(kit.now) as source:
            polling = asyncio.create_task(source.poll())
            await started.wait()
            written = await asyncio.gather(source.write("set", 1), source.write("set", 2))
            assert not polling.done()
            assert [reading.value for reading in written] == [1, 2]
            assert kit.shown(await polling) == {f"p{a}": 3 for a in range(0, 500, 50)} | {"set": 2}
        assert [request[:2] for request in line.requests[:6]] == [(1, 4), (2, 6), (2, 3), (2, 6), (2, 3), (1, 4)]
        assert line.most_at_once == 1

    kit.on_line(test)


def test_a_write_goes_before_a_read_that_waited_already(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1, 5: 0, 90: 4}
        reading, writing = asyncio.Event(), asyncio.Event()

        async def slow(unit: int, function: int, address: int, count: int) -> bytes | None:
            (writing if function == 6 else reading).set()
            await asyncio.sleep(0.02)
            return await line.honest(unit, function, address, count)

        line.answer = slow
        points = [{"name": "a", "address": 0}, {"name": "b", "address": 90}, NUMBER | {"name": "set", "address": 5}]
        async with kit.config(line, kit.units(u1=points)).open(kit.now) as source:
            polling = asyncio.create_task(source.poll())
            await reading.wait()
            first = asyncio.create_task(source.write("set", 1))
            await writing.wait()
            await source.write("set", 2)
            await asyncio.gather(polling, first)
        assert [function for _, function, *_ in line.requests[:5]] == [4, 6, 3, 6, 3]

    kit.on_line(test)


def test_a_write_that_is_given_up_while_it_waits_gives_its_turn_on(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1, 5: 0, 90: 4}
        started = asyncio.Event()

        async def slow(unit: int, function: int, address: int, count: int) -> bytes | None:
            started.set()
            await asyncio.sleep(0.05)
            return await line.honest(unit, function, address, count)

        line.answer = slow
        points = [{"name": "a", "address": 0}, NUMBER | {"name": "set", "address": 5}, {"name": "b", "address": 90}]
        async with kit.config(line, kit.units(u1=points)).open(kit.now) as source:
            polling = asyncio.create_task(source.poll())
            await started.wait()
            writes = [asyncio.create_task(source.write("set", value)) for value in (1, 2)]
            await asyncio.sleep(0)
            writes[0].cancel()
            assert (await writes[1]).value == 2
            assert kit.shown(await polling) == {"a": 1, "set": 2, "b": 4}
        assert [value for _, function, _, value in line.requests if function == 6] == [2]

    kit.on_line(test)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (bytes([0x86, 3]), r"unit 1 holding 5 \(set\): illegal value \(exception 3\)"),
        (None, "no answer in time: whether it was written is not known"),
        (bytes([6, 0, 5, 0, 9]), "no answer in time: whether it was written is not known"),
    ],
)
def test_a_write_that_failed_says_where_and_why(kit: Any, answer: bytes | None, complaint: str) -> None:
    async def test(line: Any) -> None:
        async def refuse(*_: int) -> bytes | None:
            return answer

        line.answer = refuse
        of_units = kit.units(u1=[NUMBER | {"name": "set", "address": 5}])
        async with kit.config(line, of_units).open(kit.now) as source:
            with pytest.raises(SourceError, match=f"modbus 127.0.0.1:{line.port} .*{complaint}"):
                await source.write("set", 7)

    kit.on_line(test)


def test_what_is_read_back_is_what_the_device_holds(kit: Any) -> None:
    async def test(line: Any) -> None:
        async def deaf(unit: int, function: int, address: int, count: int) -> bytes | None:
            if function == 6:
                return bytes([6, 0, address, 0, count])
            return await line.honest(unit, function, address, count)

        line.answer, line.units[1] = deaf, {5: 3}
        of_units = kit.units(u1=[NUMBER | {"name": "set", "address": 5}])
        async with kit.config(line, of_units).open(kit.now) as source:
            assert (await source.write("set", 7)).value == 3

    kit.on_line(test)


def test_a_released_line_is_released_after_a_write_too(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {5: 3}
        of_units = kit.units(u1=[NUMBER | {"name": "set", "address": 5}])
        async with kit.config(line, of_units, release=True).open(kit.now) as source:
            await source.write("set", 7)
            await asyncio.wait_for(line.writers[0].wait_closed(), 5)
            await source.poll()
            await asyncio.wait_for(line.writers[1].wait_closed(), 5)
        assert line.connections == 2

    kit.on_line(test)


def test_a_write_that_cannot_be_read_back_says_that_it_was_written(kit: Any) -> None:
    async def test(line: Any) -> None:
        async def secretive(unit: int, function: int, address: int, count: int) -> bytes | None:
            return bytes([0x83, 2]) if function == 3 else await line.honest(unit, function, address, count)

        line.answer = secretive
        of_units = kit.units(u1=[NUMBER | {"name": "set", "address": 5}])
        async with kit.config(line, of_units).open(kit.now) as source:
            with pytest.raises(SourceError, match="written, but not read back: illegal address"):
                await source.write("set", 7)

    kit.on_line(test)


def test_a_write_ends_when_the_source_is_closed(kit: Any) -> None:
    async def test(line: Any) -> None:
        asked = asyncio.Event()

        async def silent(*_: int) -> bytes | None:
            asked.set()
            return None

        line.answer = silent
        of_units = kit.units(u1=[NUMBER | {"name": "set", "address": 5}])
        async with kit.config(line, of_units, request_timeout_s=30, timeout_s=300).open(kit.now) as source:
            writes = [asyncio.create_task(source.write("set", value)) for value in (7, 8)]
            await asked.wait()
        for write in writes:
            with pytest.raises(SourceError, match="the line was closed"):
                await asyncio.wait_for(write, 5)
        assert line.connections == 1

    kit.on_line(test)
