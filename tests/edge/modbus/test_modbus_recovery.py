"""Units that come back in the middle of something else: refusing, busy, without a readable point, too slow."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time
from typing import Any

import pytest

from edge.errors import SourceError

FAR_APART = [{"name": f"p{a}", "address": 20 * a} for a in range(6)]


def test_a_unit_of_which_nothing_was_readable_and_that_then_fell_silent_is_found_again(kit: Any) -> None:
    async def test(line: Any) -> None:
        silent = False

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return None if silent else await line.honest(unit, function, address, count)

        line.answer = answer
        config = kit.config(line, kit.units(u1=kit.points), request_timeout_s=0.05, interval_s=0.1, recheck_s=0.05)
        async with config.open(kit.now) as source:
            assert set(kit.shown(await source.poll()).values()) == {"bad"}  # a PLC without its program
            silent = True
            await asyncio.sleep(0.1)
            with pytest.raises(SourceError, match="nothing answered"):
                await source.poll()
            silent, line.units[1] = False, dict.fromkeys(range(4), 7)
            await kit.until(source, "p3", 7)
            assert kit.shown(await source.poll()) == dict.fromkeys(["p0", "p1", "p2", "p3"], 7)

    kit.on_line(test)


@pytest.mark.parametrize(("code", "retry_s"), [(6, None), (6, 0.01), (4, 0.01), (2, None)])
def test_a_silent_unit_that_comes_back_refusing_is_alive(kit: Any, code: int, retry_s: float | None) -> None:
    async def test(line: Any) -> None:
        line.units[1], mood = {0: 1}, "silent"

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            if unit == 1 or mood == "well":
                return await line.honest(unit, function, address, count)
            return None if mood == "silent" else bytes([function | 0x80, code])

        line.answer = answer
        of_units = kit.units(u1=[{"name": "a", "address": 0}], u2=FAR_APART)
        config = kit.config(line, of_units, request_timeout_s=0.05, interval_s=0.05, busy_retry_s=retry_s)
        bad = dict.fromkeys([f"p{a}" for a in range(6)], "bad")
        async with config.open(kit.now) as source:
            assert kit.shown(await source.poll()) == bad | {"a": 1}
            mood = "refusing"
            deadline = time.monotonic() + 5
            while source.details()["silent_units"]:
                assert time.monotonic() < deadline
                assert kit.shown(await source.poll()) == bad | {"a": 1}
            mood, line.units[2] = "well", dict.fromkeys(range(0, 120, 20), 7)
            assert code == 2 or kit.shown(await source.poll()) == dict.fromkeys(bad, 7) | {"a": 1}

    kit.on_line(test)


def test_busy_and_then_illegal_costs_the_illegal_point_alone(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 7, 1: 7, 3: 7}
        busy = [6]

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return bytes([function | 0x80, busy.pop()]) if busy else await line.honest(unit, function, address, count)

        line.answer = answer
        async with kit.config(line, kit.units(u1=kit.points), busy_retry_s=0.01).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"p0": 7, "p1": 7, "p2": "bad", "p3": 7}

    kit.on_line(test)


def test_a_busy_unit_does_not_hold_up_a_poll_beyond_its_time(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 7}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return bytes([function | 0x80, 6]) if unit == 2 else await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u2=[{"name": "b", "address": 0}], u1=[{"name": "a", "address": 0}])
        async with kit.config(line, of_units, busy_retry_s=5, timeout_s=0.5).open(kit.now) as source:
            async with asyncio.timeout(0.5):
                assert kit.shown(await source.poll()) == {"a": 7, "b": "bad"}

    kit.on_line(test)


@pytest.mark.parametrize("code", [1, 4])
def test_one_address_that_is_refused_for_another_reason_is_found_too(kit: Any, code: int) -> None:
    async def test(line: Any) -> None:
        line.units[1] = dict.fromkeys(range(4), 7) | {20: 7}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            if address <= 2 < address + count:
                return bytes([function | 0x80, code])
            return await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u1=[*kit.points, {"name": "far", "address": 20}])
        async with kit.config(line, of_units).open(kit.now) as source:
            for _ in range(6):
                shown = kit.shown(await source.poll())
            assert shown == {"p0": 7, "p1": 7, "p2": "bad", "p3": 7, "far": 7}
            assert source.details()["bad_address_list"] == "unit 1 input 2"

    kit.on_line(test)


def test_a_unit_that_refuses_everything_is_not_searched_for_bad_addresses(kit: Any) -> None:
    async def test(line: Any) -> None:
        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            del unit, address, count
            return bytes([function | 0x80, 4])

        line.answer = answer
        async with kit.config(line, kit.units(u1=kit.points)).open(kit.now) as source:
            for _ in range(8):
                await source.poll()
            assert source.details()["bad_addresses"] == 0
            line.answer, line.units[1] = line.honest, dict.fromkeys(range(4), 7)
            assert set(kit.shown(await source.poll()).values()) == {7}

    kit.on_line(test)


def test_the_bits_of_a_bad_register_are_asked_for_once(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = dict.fromkeys(range(4), 7)
        bits = [{"name": f"bit{bit}", "address": 4, "datatype": "bool", "bit": bit} for bit in range(16)]
        async with kit.config(line, kit.units(u1=[*kit.points, *bits]), recheck_s=0.05).open(kit.now) as source:
            shown = kit.shown(await source.poll())
            assert sum(value == "bad" for value in shown.values()) == 16
            assert line.requests.count((1, 4, 4, 1)) == 1
            line.units[1][4] = 0xFFFF
            await asyncio.sleep(0.1)
            # All sixteen at once, from the one request that looks again.
            assert set(kit.shown(await source.poll()).values()) == {7, True}

    kit.on_line(test)


def test_what_was_silent_once_has_its_turn_on_a_line_without_time_for_all(kit: Any) -> None:
    async def test(line: Any) -> None:
        silent = [60]

        async def slowly(unit: int, function: int, address: int, count: int) -> bytes | None:
            if address in silent:
                silent.remove(address)
                return None
            await asyncio.sleep(0.1)
            return await line.honest(unit, function, address, count)

        line.answer = slowly
        line.units[1] = dict.fromkeys(range(0, 120, 20), 7)
        config = kit.config(line, kit.units(u1=FAR_APART), timeout_s=0.6, request_timeout_s=1)
        async with config.open(kit.now) as source:
            for _ in range(40):
                with contextlib.suppress(SourceError):  # a poll in which nothing else was answered
                    if kit.shown(await source.poll())["p3"] == 7:
                        return
        raise AssertionError("never asked again")

    kit.on_line(test)


def test_a_slow_line_leaves_no_point_unread_for_good(kit: Any) -> None:
    async def test(line: Any) -> None:
        async def slowly(unit: int, function: int, address: int, count: int) -> bytes | None:
            await asyncio.sleep(0.1)
            return await line.honest(unit, function, address, count)

        line.answer = slowly
        line.units.update({unit: dict.fromkeys(range(0, 120, 20), 7) for unit in (1, 2)})
        of_units = kit.units(**{f"u{u}": [p | {"name": f"u{u}/{p['name']}"} for p in FAR_APART] for u in (1, 2)})
        read: set[str] = set()
        async with kit.config(line, of_units, timeout_s=0.6, request_timeout_s=1).open(kit.now) as source:
            # Four polls do where the machine is idle.
            for _ in range(150):
                shown = kit.shown(await source.poll())
                assert "bad" in shown.values()
                read |= {metric for metric, value in shown.items() if value == 7}
                if read == shown.keys():
                    return
            raise AssertionError(f"never read: {shown.keys() - read}")

    kit.on_line(test)


@pytest.mark.parametrize("first", [0, 1, 9, 10, 19])
def test_a_request_that_is_too_large_is_learned_whatever_was_asked_for_in_its_place(
    kit: Any, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "randrange", lambda most: first % most)

    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(20)}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return None if count > 12 else await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in range(20)])
        config = kit.config(line, of_units, request_timeout_s=0.05, interval_s=0.2)
        async with config.open(kit.now) as source:
            for _ in range(6):
                await source.poll()
            line.requests.clear()
            assert kit.shown(await source.poll()) == {f"p{a}": a for a in range(20)}
            assert len(line.requests) == 2

    kit.on_line(test)


@pytest.mark.parametrize("cut", [1, 6, 8, 12])
def test_a_device_that_restarts_in_the_middle_of_an_answer_costs_that_answer(
    kit: Any, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "randrange", lambda _: 0)  # transaction ids are the numbers of the requests

    async def test(line: Any) -> None:
        line.units[1] = dict.fromkeys(range(4), 7) | {20: 7}
        restarts = 3

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            nonlocal restarts
            pdu = await line.honest(unit, function, address, count)
            if restarts and address == 0:
                restarts -= 1
                frame = struct.pack(">HHHB", len(line.requests), 0, len(pdu) + 1, unit) + pdu
                line.writers[-1].write(frame[:cut])
                line.writers[-1].close()
                return None
            return pdu

        line.answer = answer
        of_units = kit.units(u1=[*kit.points, {"name": "far", "address": 20}])
        async with kit.config(line, of_units).open(kit.now) as source:
            for _ in range(3):
                shown = kit.shown(await source.poll())
                assert shown["far"] == 7
                assert set(shown.values()) == {7, "bad"}
            await kit.until(source, "p0", 7)
            assert set(kit.shown(await source.poll()).values()) == {7}

    kit.on_line(test)


def test_an_answer_that_drips_is_taken_once_it_is_whole_and_in_time(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = dict.fromkeys(range(4), 7)
        pause_s = 0.005

        async def dripping(unit: int, function: int, address: int, count: int) -> bytes | None:
            pdu = await line.honest(unit, function, address, count)
            for byte in bytes([unit]) + pdu + kit.crc(bytes([unit]) + pdu):
                line.send(bytes([byte]))
                await asyncio.sleep(pause_s)
            return None

        line.answer = dripping
        config = kit.config(line, kit.units(u1=kit.points), late_answer_s=0.1)
        async with config.open(kit.now) as source:
            assert set(kit.shown(await source.poll()).values()) == {7}
            pause_s, line.units[1] = 0.03, dict.fromkeys(range(4), 8)  # 13 bytes: longer than request_timeout_s
            with pytest.raises(SourceError, match="no answer in time"):
                await source.poll()
            line.answer, line.units[1] = line.honest, dict.fromkeys(range(4), 9)
            await kit.until(source, "p0", 9)

    kit.on_serial_line(test)
