"""Addresses and sizes that a device cannot bear: found out, read around, tried again."""

from __future__ import annotations

from typing import Any


def test_an_illegal_address_costs_one_point_and_the_split_is_remembered(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {a: a for a in range(20) if a != 11}
        points = [{"name": f"p{a}", "address": a} for a in range(20)]
        async with kit.config(line, kit.units(u1=points)).open(kit.now) as source:
            expected = {f"p{a}": a for a in range(20)} | {"p11": "bad"}
            assert kit.shown(await source.poll()) == expected
            first = len(line.requests)
            assert kit.shown(await source.poll()) == expected
        second = line.requests[first:]
        assert second == [(1, 4, 0, 11), (1, 4, 12, 8)]

    kit.on_line(test)


def test_an_illegal_address_in_a_gap_costs_no_point(kit: Any) -> None:
    async def test(line: Any) -> None:
        line.units[1] = {0: 1, 3: 4}
        of_units = kit.units(u1=[{"name": "a", "address": 0}, {"name": "b", "address": 3}])
        async with kit.config(line, of_units).open(kit.now) as source:
            assert kit.shown(await source.poll()) == {"a": 1, "b": 4}

    kit.on_line(test)
