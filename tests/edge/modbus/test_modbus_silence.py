"""Units that do not answer, or too slowly: told, waited for no longer than need be, and found again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from edge.errors import SourceError


def test_a_dead_unit_spoils_nothing_of_the_others(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Any) -> None:
        line.units[1] = line.units[3] = {0: 5}
        dead = True

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return None if dead and unit == 2 else await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(
            u2=[{"name": "b0", "address": 0}, {"name": "b1", "address": 40}, {"name": "b2", "address": 80}],
            u1=[{"name": "a", "address": 0}],
            u3=[{"name": "c", "address": 0}],
        )
        async with kit.config(line, of_units, interval_s=0.1).open(kit.now) as source:
            for _ in range(4):
                assert kit.shown(await source.poll()) == {"b0": "bad", "b1": "bad", "b2": "bad", "a": 5, "c": 5}
            # Two time-outs at first, then one, then it is asked less often than it is polled.
            assert 3 <= sum(unit == 2 for unit, *_ in line.requests) <= 5
            dead, line.units[2] = False, dict.fromkeys((0, 40, 80), 9)
            await kit.until(source, "b0", 9)

    with caplog.at_level("INFO"):
        kit.on_line(test)
    assert kit.told(caplog) == [
        "plant: modbus LINE unit 2: input 0 (b0): no answer in time",
        "plant: modbus LINE unit 2 reads again",
    ]


def test_many_dead_units_leave_time_for_the_living_one(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[9] = {0: 5}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return await line.honest(unit, function, address, count) if unit == 9 else None

        line.answer = answer
        of_units = kit.units(**{f"u{u}": [{"name": f"p{u}", "address": 0}] for u in range(1, 10)})
        config = kit.config(line, of_units, timeout_s=1)
        async with config.open(kit.now) as source:
            # Eight time-outs stand before it at first; then it comes before them.
            assert kit.shown(await source.poll())["p9"] == "bad"
            for _ in range(2):
                started = time.monotonic()
                assert kit.shown(await source.poll()) == {f"p{u}": "bad" for u in range(1, 9)} | {"p9": 5}
                assert time.monotonic() - started < 1

    kit.on_line(test)


def test_a_block_that_times_out_costs_its_points_alone(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = dict.fromkeys(range(200), 1)

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return None if address == 50 else await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in (0, 50, 100)])
        async with kit.config(line, of_units).open(kit.now) as source:
            for _ in range(2):
                assert kit.shown(await source.poll()) == {"p0": 1, "p50": "bad", "p100": 1}

    kit.on_line(test)


def test_nothing_answers_names_line_unit_and_address(kit: Any) -> None:
    async def test(line: Any) -> None:
        async def silence(unit: int, function: int, address: int, count: int) -> bytes | None:
            del unit, function, address, count
            return None

        line.answer = silence
        async with kit.config(line, kit.units(u5=kit.points)).open(kit.now) as source:
            with pytest.raises(SourceError) as caught:
                await source.poll()
        text = f"modbus 127.0.0.1:{line.port}: nothing answered; unit 5: input 0-3 (p0 and 3 more): no answer in time"
        assert str(caught.value) == text

    kit.on_line(test)


def test_one_dead_unit_of_ten_costs_the_others_no_time(kit: Any) -> None:
    async def test(line: Any) -> None:
        dead = {3}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            await asyncio.sleep(0.001)
            return None if unit in dead else await line.honest(unit, function, address, count)

        line.answer = answer
        line.units.update({unit: dict.fromkeys(range(0, 100, 20), unit) for unit in range(1, 11)})
        of_units = kit.units(
            **{f"u{u}": [{"name": f"p{u}/{a}", "address": a} for a in range(0, 100, 20)] for u in range(1, 11)}
        )
        interval_s = 0.4
        config = kit.config(line, of_units, interval_s=interval_s, request_timeout_s=1, timeout_s=5)
        async with config.open(kit.now) as source:
            await source.poll()
            line.requests.clear()
            for _ in range(5):
                started = asyncio.get_running_loop().time()
                shown = kit.shown(await source.poll())
                took_s = asyncio.get_running_loop().time() - started
                assert {metric: value for metric, value in shown.items() if value != "bad"} == {
                    f"p{u}/{a}": u for u in range(1, 11) if u != 3 for a in range(0, 100, 20)
                }
                # 45 answers of 1 ms, and a probe of at most 15 % of the interval.
                assert took_s < 0.9 * interval_s
                await asyncio.sleep(interval_s - took_s)
            probes = [at for at, (unit, *_) in enumerate(line.requests) if unit == 3]
            assert 1 <= len(probes) <= 4
            assert all(request[0] != 3 for request in line.requests[:45])
            dead.clear()
            await kit.until(source, "p3/0", 3)
            assert source.details()["silent_units"] == 0

    kit.on_line(test)


def test_a_unit_that_answers_slower_than_its_share_is_found_again(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = line.units[2] = {0: 5}
        dead = True

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            if unit == 2:
                if dead:
                    return None
                await asyncio.sleep(0.06)
            return await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u1=[{"name": "a", "address": 0}], u2=[{"name": "b", "address": 0}])
        async with kit.config(line, of_units, interval_s=0.1).open(kit.now) as source:
            for _ in range(3):
                assert kit.shown(await source.poll()) == {"a": 5, "b": "bad"}
            dead = False
            await kit.until(source, "b", 5)

    kit.on_line(test)


def test_a_gateway_that_answers_for_a_dead_unit_does_not_make_it_alive(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = dict.fromkeys(range(10), 5)

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            if unit == 2:
                return bytes([function | 0x80, 11])
            return await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(
            u2=[{"name": f"b{a}", "address": 40 * a} for a in range(10)], u1=[{"name": "a", "address": 0}]
        )
        async with kit.config(line, of_units, interval_s=60).open(kit.now) as source:
            for _ in range(5):
                shown = kit.shown(await source.poll())
                assert shown.pop("a") == 5
                assert set(shown.values()) == {"bad"}
        # At first twice, then by one probe; after that it waits.
        assert sum(unit == 2 for unit, *_ in line.requests) <= 3

    kit.on_line(test)


@pytest.mark.parametrize("retry", [None, 0.05])
def test_a_busy_device_is_asked_once_more_where_that_is_wanted(kit: Any, retry: float | None) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1, 50: 2}
        busy = [6]

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            if address == 0 and busy:
                return bytes([function | 0x80, busy.pop()])
            return await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u1=[{"name": "a", "address": 0}, {"name": "b", "address": 50}])
        async with kit.config(line, of_units, busy_retry_s=retry).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"a": 1 if retry else "bad", "b": 2}
            busy[:] = [5, 6]
            assert kit.shown(await source.poll()) == {"a": "bad", "b": 2}

    kit.on_line(test)


def test_a_pause_is_kept_before_the_unit_that_needs_it(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = line.units[2] = {0: 1, 50: 2}
        asked: dict[int, list[float]] = {1: [], 2: []}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            asked[unit].append(time.monotonic())
            return await line.honest(unit, function, address, count)

        line.answer = answer
        points = [{"name": "0", "address": 0}, {"name": "50", "address": 50}]
        hasty, slow = (
            kit.units(**{f"u{unit}": [point | {"name": f"{unit}/{point['name']}"} for point in points]})[0]
            for unit in (1, 2)
        )
        async with kit.config(line, [hasty, slow | {"pause_s": 0.1}]).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"1/0": 1, "1/50": 2, "2/0": 1, "2/50": 2}
        assert asked[1][1] - asked[1][0] < 0.1
        assert min(asked[2][0] - asked[1][1], asked[2][1] - asked[2][0]) >= 0.1

    kit.on_line(test)


def test_a_dead_unit_never_uses_up_the_time_of_a_poll(kit: Any) -> None:
    async def test(line: Any) -> None:
        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return None if unit == 1 else await line.honest(unit, function, address, count)

        line.answer, line.units[2] = answer, {0: 2}
        of_units = kit.units(u1=[{"name": "a", "address": 0}], u2=[{"name": "b", "address": 0}])
        async with kit.config(line, of_units, request_timeout_s=9, timeout_s=1).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"a": "bad", "b": 2}

    kit.on_line(test)
