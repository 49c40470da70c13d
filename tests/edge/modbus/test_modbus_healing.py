"""Addresses and sizes that a device cannot bear: found out, read around, tried again; nothing else suffers."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.errors import SourceError
from edge.sources.modbus.blocks import Forbidden, plan_blocks
from edge.sources.modbus.points import PointConfig

if TYPE_CHECKING:
    from collections.abc import Callable

TWENTY = [{"name": f"p{a}", "address": a} for a in range(20)]


def refusing(line: Any, refused: Callable[[int, int], bool], code: int = 2) -> None:
    """A device that refuses some requests (address, count) and answers all others."""

    async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
        if refused(address, count):
            return bytes([function | 0x80, code])
        return await line.honest(unit, function, address, count)

    line.answer = answer


def test_an_illegal_address_costs_one_point_and_is_read_around(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(20) if a != 11}
        async with kit.config(line, kit.units(u1=TWENTY)).open(kit.now) as source:
            expected = {f"p{a}": a for a in range(20)} | {"p11": "bad"}
            assert kit.shown(await source.poll()) == expected
            line.requests.clear()
            assert kit.shown(await source.poll()) == expected
            assert line.requests == [(1, 4, 0, 11), (1, 4, 12, 8)]
            details = source.details()
        assert (details["requests_per_poll"], details["bad_addresses"]) == (2, 1)
        assert details["bad_address_list"] == "unit 1 input 11"

    with caplog.at_level("INFO"):
        kit.on_line(test)
    assert kit.told(caplog) == ["plant: modbus LINE unit 1 input 11 (p11): illegal address (exception 2)"]


def test_a_bad_point_is_tried_again_by_itself_and_planned_in_again(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(20) if a != 11}
        async with kit.config(line, kit.units(u1=TWENTY), recheck_s=0.1).open(kit.now) as source:
            good = {f"p{a}": a for a in range(20)}
            await source.poll()
            line.requests.clear()
            deadline = time.monotonic() + 5
            while (1, 4, 11, 1) not in line.requests:
                assert time.monotonic() < deadline
                assert kit.shown(await source.poll()) == good | {"p11": "bad"}
            line.units[1][11] = 11
            await kit.until(source, "p11", 11)
            line.requests.clear()
            assert kit.shown(await source.poll()) == good
            assert line.requests == [(1, 4, 0, 20)]
            assert source.details()["bad_addresses"] == 0

    with caplog.at_level("INFO"):
        kit.on_line(test)
    assert kit.told(caplog)[1:] == ["plant: modbus LINE unit 1 input 11 (p11) reads again"]


def test_what_went_bad_together_comes_back_together(kit: Any) -> None:
    async def test(line: Any) -> None:
        async with kit.config(line, kit.units(u1=TWENTY), recheck_s=0.05).open(kit.now) as source:
            assert set(kit.shown(await source.poll()).values()) == {"bad"}
            line.units[1] = {a: a for a in range(20)}
            await kit.until(source, "p0", 0)
            line.requests.clear()
            assert kit.shown(await source.poll()) == {f"p{a}": a for a in range(20)}
            assert line.requests == [(1, 4, 0, 20)]

    kit.on_line(test)


def test_an_illegal_gap_is_read_around_and_tried_again(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1, 3: 4}
        of_units = kit.units(u1=[{"name": "a", "address": 0}, {"name": "b", "address": 3}])
        async with kit.config(line, of_units, recheck_s=0.1).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"a": 1, "b": 4}
            assert source.details()["bad_address_list"] == "unit 1 input 1-2"
            line.requests.clear()
            assert kit.shown(await source.poll()) == {"a": 1, "b": 4}
            assert line.requests[:2] == [(1, 4, 0, 1), (1, 4, 3, 1)]
            line.units[1] = dict.fromkeys(range(4), 7)
            deadline = time.monotonic() + 5
            while line.requests[-1] != (1, 4, 0, 4):
                assert time.monotonic() < deadline
                assert kit.shown(await source.poll()) == {"a": 7, "b": 7}

    with caplog.at_level("INFO"):
        kit.on_line(test)
    assert not caplog.records


@pytest.mark.parametrize(("limit", "code"), [(100, 3), (100, 2), (64, 3), (7, 2), (1, 3)])
def test_the_largest_request_of_a_device_is_found(kit: Any, limit: int, code: int) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(250)}
        refusing(line, lambda _, count: count > limit, code)
        of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in range(250)])
        async with kit.config(line, of_units, timeout_s=30, interval_s=30).open(kit.now) as source:
            for _ in range(16):
                assert kit.shown(await source.poll()) == {f"p{a}": a for a in range(250)}
            line.requests.clear()
            await source.poll()
            assert max(count for *_, count in line.requests) == limit
            assert len(line.requests) == -(-250 // limit)
            assert source.details()["bad_addresses"] == 0

    kit.on_line(test)


def test_a_size_is_doubted_later(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(20)}
        refusing(line, lambda _, count: count > 8)
        async with kit.config(line, kit.units(u1=TWENTY), recheck_s=0.1).open(kit.now) as source:
            await source.poll()
            refusing(line, lambda *_: False)
            deadline = time.monotonic() + 5
            while line.requests[-1] != (1, 4, 0, 20):
                assert time.monotonic() < deadline
                assert kit.shown(await source.poll()) == {f"p{a}": a for a in range(20)}

    kit.on_line(test)


@pytest.mark.parametrize("how", ["silent", "dropped"])
def test_an_address_that_silences_a_device_is_found_and_read_around(
    kit: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(100)}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            if address <= 11 < address + count:
                if how == "dropped":
                    line.writers[-1].transport.abort()
                return None
            return await line.honest(unit, function, address, count)

        line.answer = answer
        of_units = kit.units(u1=[*TWENTY, {"name": "far", "address": 90}])
        config = kit.config(line, of_units, request_timeout_s=0.05, interval_s=0.2)
        async with config.open(kit.now) as source:
            expected = {f"p{a}": a for a in range(20)} | {"p11": "bad", "far": 90}
            deadline = time.monotonic() + 10
            while kit.shown(await source.poll()) != expected:
                assert time.monotonic() < deadline
            line.requests.clear()
            assert kit.shown(await source.poll()) == expected
            assert line.requests[:3] == [(1, 4, 0, 11), (1, 4, 12, 8), (1, 4, 90, 1)]

    kit.on_line(test)
    assert "input 11 (p11): " in caplog.text


def test_a_device_that_is_silent_when_asked_for_too_much_is_found_out(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(20)}

        async def answer(unit: int, function: int, address: int, count: int) -> bytes | None:
            return None if count > 12 else await line.honest(unit, function, address, count)

        line.answer = answer
        config = kit.config(line, kit.units(u1=TWENTY), request_timeout_s=0.05, interval_s=0.2)
        async with config.open(kit.now) as source:
            deadline = time.monotonic() + 10
            good = 0
            while good < 3:
                assert time.monotonic() < deadline
                line.requests.clear()
                readings = {}
                with suppress(SourceError):  # nothing answered
                    readings = kit.shown(await source.poll())
                good = good + 1 if readings == {f"p{a}": a for a in range(20)} and len(line.requests) == 2 else 0

    kit.on_line(test)


def test_a_point_over_a_bad_register_takes_no_neighbour_along(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(20) if a != 6}
        points = [{"name": "wide", "address": 5, "datatype": "uint32"}, {"name": "half", "address": 5}]
        points += [{"name": "before", "address": 4}, {"name": "after", "address": 7}]
        async with kit.config(line, kit.units(u1=points)).open(kit.now) as source:
            for _ in range(3):
                assert kit.shown(await source.poll()) == {"wide": "bad", "half": 5, "before": 4, "after": 7}

    kit.on_line(test)


def test_a_border_that_no_request_may_cross_is_found_and_doubted(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(100)}
        refusing(line, lambda address, count: address < 37 < address + count)
        of_units = kit.units(u1=[{"name": f"p{a}", "address": a} for a in range(100)])
        async with kit.config(line, of_units, recheck_s=0.5).open(kit.now) as source:
            good = {f"p{a}": a for a in range(100)}
            for _ in range(8):
                line.requests.clear()
                assert kit.shown(await source.poll()) == good
            assert line.requests == [(1, 4, 0, 37), (1, 4, 37, 63)]
            refusing(line, lambda *_: False)
            deadline = time.monotonic() + 5
            while line.requests[-1] != (1, 4, 0, 100):
                assert time.monotonic() < deadline
                assert kit.shown(await source.poll()) == good

    kit.on_line(test)


DEVICES = st.tuples(
    st.sets(st.integers(0, 39), min_size=1, max_size=30),  # points
    st.sets(st.integers(0, 39), max_size=5),  # illegal addresses
    st.integers(1, 40),  # largest request
    st.sets(st.integers(1, 39), max_size=2),  # first addresses behind borders that no request may cross
)


@settings(max_examples=60, deadline=None)
@given(device=DEVICES)
@example(device=({0, 1, 5, 27, 30, 34}, set(), 4, set()))
def test_every_readable_point_is_read_in_every_poll_and_soon_in_the_fewest_requests(
    kit: Any, device: tuple[set[int], set[int], int, set[int]]
) -> None:
    addresses, illegal, limit, borders = device
    points = [{"name": f"p{a}", "address": a, "table": "input", "datatype": "uint16"} for a in sorted(addresses)]
    expected = {f"p{a}": "bad" if a in illegal else a for a in addresses}
    legal = [PointConfig.model_validate(point) for point in points if point["address"] not in illegal]
    walls = [Forbidden(table="input", first=a, last=a) for a in illegal]
    fewest = [
        block
        for start, stop in pairwise([0, *sorted(borders), 40])
        for part in [[point for point in legal if start <= point.address < stop]]
        for block in plan_blocks(1, part, max_gap=4, max_registers=limit, forbidden=walls)
    ]

    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(40) if a not in illegal}
        refusing(line, lambda a, count: count > limit or any(a < border < a + count for border in borders))
        async with kit.config(line, kit.units(u1=points), timeout_s=30).open(kit.now) as source:
            for _ in range(25):
                line.requests.clear()
                assert kit.shown(await source.poll()) == expected
            # Of some maps with borders one cannot say at once that it is not the size that was refused.
            assert 0 <= len(line.requests) - len(fewest) <= 3 * len(borders)
            asked = {a for _, _, address, count in line.requests for a in range(address, address + count)}
            assert not asked & illegal

    kit.on_line(test)
