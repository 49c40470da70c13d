"""Blocks: the plan is minimal against every other one, keeps out of forbidden addresses, and its answers decode."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config import ConfigError, parse_config
from contract.sparkplug import Quality
from edge.sources.modbus.blocks import Block, Forbidden, plan_blocks
from edge.sources.modbus.points import PointConfig, ValueFault
from edge.sources.modbus.values import decode_registers

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = {"int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "int64": 4, "float64": 4}
BIT_TABLES = {"coil", "discrete"}


def point(**fields: Any) -> PointConfig:
    return PointConfig.model_validate({"name": "p", "table": "input", "address": 0, "datatype": "int16"} | fields)


def taken(wanted: PointConfig) -> set[int]:
    """The addresses that have to be read together for a point, and those between them."""
    own = {*range(wanted.address, wanted.address + (SIZES.get(wanted.datatype) or wanted.length or 1))}
    ends = own | ({wanted.exponent_at} if wanted.exponent_at is not None else set())
    return {*range(min(ends), max(ends) + 1)}


def is_allowed(group: list[PointConfig], forbidden: set[int], max_gap: int, limit: int) -> bool:
    """Whether one request may read these points, by the words of the rules."""
    used = set[int]().union(*map(taken, group))
    asked = {*range(min(used), max(used) + 1)}
    gaps = "".join("x" if address in used else "." for address in sorted(asked)).split("x")
    return len(asked) <= limit and not asked & forbidden and max(map(len, gaps)) <= max_gap


def partitions(points: list[PointConfig]) -> Iterator[list[list[PointConfig]]]:
    """Every way to put points into groups."""
    if not points:
        yield []
        return
    for groups in partitions(points[1:]):
        yield [[points[0]], *groups]
        for i, group in enumerate(groups):
            yield [*groups[:i], [points[0], *group], *groups[i + 1 :]]


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[PointConfig], list[Forbidden], int, int]:
    """A few points close together, of different sizes, over each other too; walls between them; gap; limit."""
    points = []
    for i in range(draw(st.integers(1, 6))):
        fields = {
            "name": f"p{i}",
            "address": draw(st.integers(0, 14)),
            "datatype": draw(st.sampled_from(sorted(SIZES))),
        }
        if draw(st.booleans()) and draw(st.booleans()):
            fields["exponent_at"] = draw(st.integers(max(0, fields["address"] - 5), fields["address"] + 5))
        points.append(point(**fields))
    limit = draw(st.integers(max(len(taken(p)) for p in points), 16))
    wanted = set[int]().union(*map(taken, points))
    walls = draw(st.lists(st.integers(0, 20).filter(lambda address: address not in wanted), max_size=3))
    forbidden = [Forbidden(table="input", first=wall, last=wall) for wall in walls]
    return points, forbidden, draw(st.integers(0, 5)), limit


@given(crowd=crowds())
def test_no_plan_has_fewer_requests(crowd: tuple[list[PointConfig], list[Forbidden], int, int]) -> None:
    points, forbidden, max_gap, limit = crowd
    walls = {wall.first for wall in forbidden}
    plan = plan_blocks(1, points, max_gap=max_gap, max_registers=limit, forbidden=forbidden)
    assert sorted(p.name for block in plan for p in block.points) == sorted(p.name for p in points)
    for block in plan:
        assert is_allowed(list(block.points), walls, max_gap, limit)
        asked = {*range(block.address, block.address + block.count)}
        assert not asked & walls
        assert asked >= set[int]().union(*map(taken, block.points))
        assert min(asked) in {min(taken(p)) for p in block.points}
    fewest = min(
        len(groups)
        for groups in partitions(points)
        if all(is_allowed(group, walls, max_gap, limit) for group in groups)
    )
    assert len(plan) == fewest


@st.composite
def point_lists(draw: st.DrawFn) -> list[PointConfig]:
    """Points anywhere in four tables, over each other too."""
    points = []
    for i in range(draw(st.integers(1, 40))):
        table = draw(st.sampled_from(["coil", "discrete", "holding", "input"]))
        datatype = "bool" if table in BIT_TABLES else draw(st.sampled_from(sorted(SIZES)))
        address = draw(st.integers(0, 3000) | st.integers(0, 60) | st.integers(65_000, 65_532))
        points.append(point(name=f"p{i}", table=table, datatype=datatype, address=address))
    return points


@given(
    points=point_lists(),
    max_gap=st.integers(0, 20),
    max_registers=st.integers(4, 125),
    max_bits=st.integers(1, 2000),
    walls=st.lists(st.tuples(st.integers(0, 70) | st.integers(0, 3000), st.integers(0, 9)), max_size=6),
)
def test_a_plan_reads_every_point_once_within_the_limits(
    points: list[PointConfig], max_gap: int, max_registers: int, max_bits: int, walls: list[tuple[int, int]]
) -> None:
    wanted = {(p.table, address) for p in points for address in taken(p)}
    forbidden = [
        Forbidden(table=table, first=first, last=first + more)
        for first, more in walls
        for table in ("coil", "input")
        if not wanted & {(table, address) for address in range(first, first + more + 1)}
    ]
    blocks = plan_blocks(
        7, points, max_gap=max_gap, max_registers=max_registers, max_bits=max_bits, forbidden=forbidden
    )
    assert sorted(p.name for block in blocks for p in block.points) == sorted(p.name for p in points)
    for block in blocks:
        assert block.unit_id == 7
        assert {p.table for p in block.points} == {block.table}
        limit = max_bits if block.table in BIT_TABLES else max_registers
        no_go = {a for wall in forbidden if wall.table == block.table for a in range(wall.first, wall.last + 1)}
        assert is_allowed(list(block.points), no_go, max_gap, limit)
        assert all(a.address <= b.address for a, b in pairwise(block.points))


def test_neighbours_are_read_together_and_far_ones_apart() -> None:
    points = [point(name=str(a), address=a) for a in (0, 1, 2, 7, 20)] + [point(name="h", table="holding", address=3)]
    blocks = plan_blocks(1, points, max_gap=4, max_registers=125)
    assert [(b.table, b.address, b.count) for b in blocks] == [("holding", 3, 1), ("input", 0, 8), ("input", 20, 1)]


@pytest.mark.parametrize(
    ("fields", "limits", "arithmetic"),
    [
        (
            {"datatype": "int64", "address": 8},
            {"forbidden": [Forbidden(table="input", first=11, last=12)]},
            "point p takes input 8 to 11, and 11 to 12 are forbidden",
        ),
        ({"datatype": "int64"}, {"max_registers": 3}, "input 0 to 3: these are 4, and one request may read 3"),
    ],
)
def test_a_point_that_cannot_be_read_is_refused_with_the_arithmetic(
    fields: dict[str, Any], limits: dict[str, Any], arithmetic: str
) -> None:
    with pytest.raises(ValueError, match=arithmetic):
        plan_blocks(1, [point(**fields)], **{"max_gap": 4, "max_registers": 125} | limits)


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ConfigError, match="first 5 is above last 4"):
        parse_config({"table": "input", "first": 5, "last": 4}, Forbidden, "edge.yaml")


# Answers


@st.composite
def filled_blocks(draw: st.DrawFn) -> tuple[Block, list[int]]:
    """A block of any points, over each other and out of order too, and the registers that were answered."""
    points = []
    for i in range(draw(st.integers(1, 12))):
        datatype = draw(st.sampled_from([*sorted(SIZES), "bool", "bcd16", "bcd32", "string"]))
        fields: dict[str, Any] = {"name": f"p{i}", "datatype": datatype, "address": draw(st.integers(0, 30))}
        fields["byte_order"] = draw(st.sampled_from(["big", "big", "little"]))
        if datatype == "bool":
            fields["bit"] = draw(st.integers(0, 15))
        elif datatype == "string":
            fields["length"] = draw(st.integers(1, 5))
        else:
            fields["word_order"] = draw(st.sampled_from(["big", "big", "little"]))
            fields |= draw(st.sampled_from([{}, {}, {"scale": 0.5, "min": 0}, {"exponent_at": 33}, {"exponent_at": 2}]))
        points.append(point(**fields))
    [block] = plan_blocks(1, points, max_gap=100, max_registers=125)
    registers = draw(st.lists(st.integers(0, 0xFFFF) | st.integers(0, 9), min_size=block.count, max_size=block.count))
    return block, registers


def alone(block: Block, wanted: PointConfig, registers: list[int]) -> object:
    """A point's value from its own registers, or what is the matter."""
    at = wanted.address - block.address
    own = registers[at : at + wanted.size]
    exponent = 0 if wanted.exponent_at is None else registers[wanted.exponent_at - block.address]
    raw = exponent.to_bytes(2, "big")
    try:
        return decode_registers(wanted, own, int.from_bytes(raw, wanted.byte_order, signed=True))
    except ValueFault as exc:
        return exc


@given(filled=filled_blocks())
def test_a_block_decodes_as_its_points_do_alone(filled: tuple[Block, list[int]]) -> None:
    block, registers = filled
    data = b"".join(register.to_bytes(2, "big") for register in registers)
    assert len(data) == block.decoder.size_bytes
    readings, faults = block.readings(data, 1_700_000_000_000)
    assert [reading.metric for reading in readings] == [p.name for p in block.points]
    reasons = {p.name: reason for p, reason in faults}
    for reading, wanted in zip(readings, block.points, strict=True):
        expected = alone(block, wanted, registers)
        assert (reading.datatype, reading.sampled_at_ms) == (wanted.metric_type, 1_700_000_000_000)
        if isinstance(expected, ValueFault):
            assert (reading.value, reading.quality) == (None, Quality.BAD)
            assert reasons.pop(wanted.name) == str(expected)
        else:
            assert (reading.value, reading.quality) == (expected, Quality.GOOD)
            assert type(reading.value) is type(expected)
    assert reasons == {}


@given(bits=st.lists(st.booleans(), min_size=1, max_size=60), first=st.integers(0, 9))
def test_bits_are_packed_from_the_lowest_of_the_first_byte(bits: list[bool], first: int) -> None:
    points = [point(name=f"c{i}", table="coil", datatype="bool", address=first + i) for i in range(len(bits))]
    [block] = plan_blocks(1, points, max_gap=0, max_registers=125)
    data = bytearray(-(-len(bits) // 8))
    for i, bit in enumerate(bits):
        data[i // 8] += bit * 2 ** (i % 8)
    assert [reading.value for reading in block.readings(bytes(data), 1)[0]] == bits


def test_an_answer_of_another_length_is_not_taken_for_values() -> None:
    [block] = plan_blocks(1, [point(), point(name="q", address=3)], max_gap=4, max_registers=125)
    with pytest.raises(struct.error):
        block.readings(b"\0" * 6, 1)


def test_the_halves_hold_the_points_of_the_whole() -> None:
    points = [point(name=str(i), address=i, exponent_at=5) for i in range(5)]
    [block] = plan_blocks(1, points, max_gap=4, max_registers=125)
    left, right = block.halves()
    assert [*left.points, *right.points] == points
    assert (left.address, left.count, right.address, right.count) == (0, 6, 2, 4)
    assert left.readings(struct.pack(">6h", 7, 8, 9, 0, 0, 2), 1)[0][1].value == 800
