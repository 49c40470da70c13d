"""Connections that are cut, lead nowhere, or bring what is late or not ours: none of it is taken for an answer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from edge.errors import SourceError


def test_a_late_answer_is_never_taken_for_a_current_one(kit: Any) -> None:
    async def test(line: Any) -> None:
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
        of_units = kit.units(u1=[{"name": "a", "address": 0}, {"name": "b", "address": 50}])
        async with kit.config(line, of_units).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"a": "bad", "b": 2}
            assert line.connections == 2
            late = False
            assert kit.shown(await source.poll()) == {"a": 1, "b": 2}

    kit.on_line(test)


def test_a_poll_that_is_cancelled_leaves_no_answer_for_the_next(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1}
        delay_s = 0.2

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            pdu = await line.honest(unit, function, address, count)
            await asyncio.sleep(delay_s)
            return pdu

        line.answer = answer
        of_units = kit.units(u1=[{"name": "a", "address": 0}])
        async with kit.config(line, of_units, request_timeout_s=1).open(kit.now) as source:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.poll(), 0.1)
            line.units[1][0], delay_s = 2, 0.0
            assert kit.shown(await source.poll()) == {"a": 2}
        assert line.connections == 2

    kit.on_line(test)


def test_a_line_that_is_down_is_named_and_found_again(kit: Any) -> None:
    async def down_then_up() -> None:
        async with kit.line() as gone:
            port = gone.port
        async with kit.config(port, kit.units(u1=kit.points, u2=[{"name": "x", "address": 0}])).open(kit.now) as source:
            with pytest.raises(SourceError, match=f"unit 1.*no connection to 127.0.0.1:{port}.*Connect call failed"):
                await source.poll()
            async with kit.line(port) as line:
                line.units[1] = line.units[2] = dict.fromkeys(range(4), 3)
                assert set(kit.shown(await source.poll()).values()) == {3}

    asyncio.run(down_then_up())


def test_a_connection_cut_by_the_device_is_noticed_at_once_and_opened_again(kit: Any) -> None:
    async def test(line: Any) -> None:
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
        of_units = kit.units(u1=[{"name": "a", "address": 0}, {"name": "b", "address": 50}])
        async with kit.config(line, of_units, request_timeout_s=1.5).open(kit.now) as source:
            started = time.monotonic()
            assert kit.shown(await source.poll()) == {"a": "bad", "b": 2}
            assert time.monotonic() - started < 1
            assert kit.shown(await source.poll()) == {"a": 1, "b": 2}

    kit.on_line(test)


def test_a_connection_that_leads_nowhere_any_more_is_opened_again(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1}
        async with kit.config(line, kit.units(u1=[{"name": "a", "address": 0}])).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"a": 1}
            first = line.writers[0]

            async def only_new(unit: int, function: int, address: int, count: int) -> bytes | None:
                # As after a firewall has forgotten the connection: no RST, just nothing.
                return None if line.writers[-1] is first else await line.honest(unit, function, address, count)

            line.answer = only_new
            with pytest.raises(SourceError, match="no answer in time"):
                await source.poll()
            assert kit.shown(await source.poll()) == {"a": 1}
            assert source.details()["connections"] == 2

    kit.on_line(test)


def test_answers_to_something_else_are_passed_over_and_counted(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            for wrong in (b"\0\x07\0\0\0\x05\x01\x04\x02\0\x63", b"\0\x07\0\0\0\x03\x01\x84\x02"):
                line.writers[-1].write(wrong)
            return await line.honest(unit, function, address, count)

        line.answer = answer
        async with kit.config(line, kit.units(u1=[{"name": "a", "address": 0}])).open(kit.now) as source:
            for _ in range(3):
                assert kit.shown(await source.poll()) == {"a": 1}
            assert source.details()["skipped_frames"] == 6
        assert line.connections == 1

    kit.on_line(test)


def test_what_is_no_modbus_ends_the_connection(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1}

        async def answer(*_: int) -> bytes | None:
            line.writers[-1].write(b"SSH-2.0-OpenSSH_9.2\r\n")
            line.answer = line.honest
            return None

        line.answer = answer
        async with kit.config(line, kit.units(u1=[{"name": "a", "address": 0}])).open(kit.now) as source:
            with pytest.raises(SourceError, match="is no Modbus TCP"):
                await source.poll()
            assert kit.shown(await source.poll()) == {"a": 1}

    kit.on_line(test)
