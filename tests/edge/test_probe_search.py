"""The searches of a probe, against devices made up of nothing but rules."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.config import parse_config
from edge.sources.modbus.blocks import Block
from edge.sources.modbus.points import PointConfig
from edge.sources.modbus.probe_search import (
    FindRanges,
    Largest,
    Question,
    Ranges,
    Refused,
    find_largest,
    find_pause,
    find_units,
)
from edge.sources.modbus.probe_value import find_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.sources.modbus.probe_search import Reply, Search

T = TypeVar("T")


def follow(search: Search[T], device: Callable[[Question], Reply]) -> tuple[T, int]:
    """What a search finds on a device, and how often it asked."""
    asked = 0
    try:
        question = next(search)
        while True:
            asked += 1
            question = search.send(device(question))
    except StopIteration as end:
        return end.value, asked


def registers(legal: set[int], most: int = 125) -> Callable[[Question], Reply]:
    def device(question: Question) -> Reply:
        if question.count > most:
            return Refused(3)
        wanted = range(question.address, question.address + question.count)
        return b"".join(struct.pack(">H", at) for at in wanted) if legal.issuperset(wanted) else Refused(2)

    return device


def ranges_of(device: Callable[[Question], Reply], addresses: range, most: int = 125) -> tuple[Ranges, int]:
    found = Ranges("holding", [], {})
    _, asked = follow(FindRanges(1, addresses, most, found).search(), device)
    return found, asked


runs = st.lists(st.tuples(st.integers(0, 280), st.integers(1, 90)), max_size=6)


@settings(deadline=None)
@given(runs=runs, most=st.integers(1, 125))
def test_exactly_the_readable_addresses_are_found_whatever_the_largest_block(
    runs: list[tuple[int, int]], most: int
) -> None:
    legal = {at for start, count in runs for at in range(start, start + count)}
    found, asked = ranges_of(registers(legal, most), range(300))
    assert {at for span in found.spans for at in span} == legal & set(range(300))
    assert all(before.stop < after.start for before, after in zip(found.spans, found.spans[1:], strict=False))
    assert found.content == {at: struct.pack(">H", at) for at in legal & set(range(300))}
    assert asked <= 2 * 300 + 10


def test_what_can_be_read_is_read_in_few_questions() -> None:
    found, asked = ranges_of(registers(set(range(1000))), range(1000))
    assert found.spans == [range(1000)]
    assert asked < 15


def test_a_table_that_a_device_does_not_have_costs_one_question() -> None:
    found, asked = ranges_of(lambda _: Refused(1), range(1000))
    assert (found.spans, asked) == ([], 1)
    assert "exception 1" in (found.gave_up or "")


def test_a_table_about_which_a_device_is_silent_is_left_alone_soon() -> None:
    for silence in (None, Refused(11)):
        found, asked = ranges_of(lambda _, silence=silence: silence, range(1000))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        assert asked <= 3
        assert found.gave_up is not None


def test_silence_about_some_addresses_is_borne_with_for_a_while() -> None:
    legal = set(range(10)) | set(range(12, 40))
    answers = registers(legal)

    def device(question: Question) -> Reply:
        reply = answers(question)
        return reply if isinstance(reply, bytes) else None

    found, _ = ranges_of(device, range(40))
    assert found.spans == [range(10), range(12, 40)]


def test_pairs_that_are_given_only_whole_are_found() -> None:
    def device(question: Question) -> Reply:
        fits = question.address % 2 == 0 and question.count % 2 == 0 and question.address + question.count <= 20
        return bytes(2 * question.count) if fits else Refused(2)

    found, _ = ranges_of(device, range(30))
    assert found.spans == [range(20)]


@given(limit=st.integers(1, 200), length=st.integers(1, 200))
def test_the_largest_block_is_found_exactly(limit: int, length: int) -> None:
    largest, asked = follow(
        find_largest(1, "holding", range(7, 7 + length), 125), registers(set(range(7, 7 + length)), limit)
    )
    assert largest == Largest(min(limit, length, 125), is_limit=limit < min(length, 125))
    assert asked <= 9


@given(needed_s=st.floats(0, 0.9), busy=st.booleans())
def test_the_needed_pause_is_found_and_not_much_more(needed_s: float, busy: bool) -> None:  # noqa: FBT001 - drawn
    def device(question: Question) -> Reply:
        assert question.pause_s is not None
        if question.pause_s >= needed_s:
            return b"\0\0"
        return Refused(6) if busy else None

    pause_s, asked = follow(find_pause(Question(1, "holding", 0)), device)
    assert pause_s is not None
    assert needed_s <= pause_s <= max(1.12 * needed_s, needed_s + 0.001)
    assert asked < 150


def test_a_device_that_never_answers_in_a_row_has_no_pause() -> None:
    assert follow(find_pause(Question(1, "holding", 0)), lambda _: None)[0] is None


@given(present=st.sets(st.integers(1, 247), max_size=8), refusing=st.booleans())
def test_exactly_the_units_that_are_there_are_found(present: set[int], refusing: bool) -> None:  # noqa: FBT001 - drawn
    def device(question: Question) -> Reply:
        if question.unit_id in present:
            return Refused(2) if refusing else b"\0\0"
        return Refused(11) if refusing else None

    found: list[int] = []
    any_unit, _ = follow(find_units(range(1, 248), None, found), device)
    if not any_unit:
        assert found == sorted(present)
    else:
        assert {199, 213, 231} <= present


def test_the_search_for_units_ends_early_where_told_or_where_any_id_is_answered() -> None:
    found: list[int] = []
    assert follow(find_units(range(1, 248), 2, found), lambda q: b"\0\0" if q.unit_id in {3, 5, 7} else None)[1] < 12
    assert found == [3, 5]
    found = []
    assert follow(find_units(range(1, 248), None, found), lambda _: b"\0\0") == (True, 4)
    assert found == [1]


NUMBERS = {
    "int16": ("h", -1234),
    "uint16": ("H", 54321),
    "int32": ("i", -123456789),
    "uint32": ("I", 3123456789),
    "int64": ("q", -(2**50) + 7),
    "uint64": ("Q", 2**63 + 2048),
    "float32": ("f", 231.5),
    "float64": ("d", -1.25e-7),
}
ORDERS = {1: ["big"], 2: ["big", "little"], 4: ["big", "little", "big-swapped", "little-swapped"]}
CASES = [
    (datatype, byte_order, word_order)
    for datatype, (code, _) in NUMBERS.items()
    for byte_order in ("big", "little")
    for word_order in ORDERS[struct.calcsize(">" + code) // 2]
]


def letters(size: int, byte_order: str, word_order: str) -> list[int]:
    """Where each byte of a big-endian number goes, drawn by hand as manuals do."""
    drawn = {
        (1, "big"): "AB",
        (2, "big"): "ABCD",
        (2, "little"): "CDAB",
        (4, "big"): "ABCDEFGH",
        (4, "little"): "GHEFCDAB",
        (4, "big-swapped"): "CDABGHEF",
        (4, "little-swapped"): "EFGHABCD",
    }[size, word_order]
    if byte_order == "little":
        drawn = "".join(drawn[i + 1] + drawn[i] for i in range(0, len(drawn), 2))
    return [ord(letter) - ord("A") for letter in drawn]


@pytest.mark.parametrize(("datatype", "byte_order", "word_order"), CASES)
def test_a_value_is_found_in_every_datatype_and_order(datatype: str, byte_order: str, word_order: str) -> None:
    code, number = NUMBERS[datatype]
    raw = struct.pack(f">{code}", number)
    size = len(raw) // 2
    data = bytes(raw[place] for place in letters(size, byte_order, word_order))
    content = dict.fromkeys(range(20), b"\x12\x34")
    content |= {9 + i: data[2 * i : 2 * i + 2] for i in range(size)}
    found = find_value(1, "holding", content, float(number), 1e-9)
    exact = [
        c for c in found if (c.datatype, c.byte_order, c.word_order, c.address) == (datatype, byte_order, word_order, 9)
    ]
    assert len(exact) == 1
    assert exact[0].scale == 1
    # What the agent makes of the printed point is the value.
    point = parse_config(exact[0].to_point("p"), PointConfig, "probe")
    (reading,), faults = Block(1, "holding", (point,)).readings(data, 0)
    assert (reading.value, faults) == (number, [])


@pytest.mark.parametrize(("raw", "scale"), [(2314, 0.1), (23140, 0.01), (23, 10.0)])
def test_a_scaled_value_is_found_with_its_scale(raw: int, scale: float) -> None:
    wanted = 231.4 if scale < 1 else 230.0
    (found, *_) = find_value(1, "input", {5: struct.pack(">H", raw)}, wanted, 0.001)
    assert (found.datatype, found.scale, found.address) == ("uint16", scale, 5)
    assert found.to_point("x")["scale"] == scale


def test_likely_ways_come_before_unlikely_ones_and_none_twice() -> None:
    content = {1: b"\x43\x67", 2: b"\x66\x66", 8: b"\x09\x0a", 9: b"\x23\x14"}
    found = find_value(1, "input", content, 231.4, 0.01)
    assert [(one.datatype, one.address) for one in found[:2]] == [("float32", 1), ("uint16", 8)]
    assert "bcd16" in {one.datatype for one in found}
    assert len(
        {(one.datatype.removeprefix("u"), one.address, one.byte_order, one.word_order, one.scale) for one in found}
    ) == len(found)


def test_what_is_no_number_is_no_value() -> None:
    content: dict[int, Any] = {0: b"\x7f\xc0", 1: b"\0\0", 2: b"\x7f\x80", 3: b"\0\0"}
    assert [one for one in find_value(1, "input", content, 5e8, 0.5) if one.datatype == "float32"] == []
