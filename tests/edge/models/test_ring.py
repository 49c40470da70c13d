"""Readings by step, held against the plainest way to say the same."""

from __future__ import annotations

import math
import struct
from array import array
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.settings import BAD, GOOD, NOTHING
from edge.models.ring import Resample, Ring

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_MS = 1000
SIZE = 8

VALUES = st.one_of(
    st.integers(-1000, 1000),
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.sampled_from([None, "text", 10**400, -(10**400), b""]),
)
RULES: dict[str, Callable[[list[float]], float]] = {
    "last": lambda numbers: numbers[-1],
    "mean": lambda numbers: math.fsum(numbers) / len(numbers),
    "min": min,
    "max": max,
}
READINGS = st.lists(st.tuples(st.integers(0, 30 * STEP_MS), VALUES, st.booleans()), max_size=60)


def unpacked(ring: Ring, first: int, count: int) -> tuple[list[float], list[int]]:
    values, states = ring.span(first, count)
    return list(struct.unpack(f"={count}d", values)), list(states)


def is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


@given(READINGS, st.sampled_from(get_args(Resample)), st.integers(0, 30), st.integers(0, 12))
def test_a_ring_knows_the_newest_steps(
    readings: list[tuple[int, object, bool]], resample: Resample, first: int, count: int
) -> None:
    ring = Ring(SIZE, STEP_MS, resample)
    expected: dict[int, list[tuple[int, float]]] = {}
    seen: set[int] = set()
    newest = -1
    for at_ms, value, good in readings:
        ring.put(at_ms, value, good=good)
        step = at_ms // STEP_MS
        if step <= newest - SIZE:
            continue
        newest = max(newest, step)
        seen.add(step)
        if good and is_number(value):
            expected.setdefault(step, []).append((at_ms, float(value)))  # type: ignore[arg-type]  # it is a number
    values, states = unpacked(ring, first, count)
    for step, value, state in zip(range(first, first + count), values, states, strict=True):
        known = newest - SIZE < step <= newest
        if known and step in expected:
            # Of two readings of one time the later counts: sorted() keeps their order.
            numbers = [value for _, value in sorted(expected[step], key=lambda each: each[0])]
            assert state == GOOD
            assert value == pytest.approx(RULES[resample](numbers), rel=1e-12, abs=1e-12 * max(map(abs, numbers)))
        else:
            assert state == (BAD if known and step in seen else NOTHING)


def test_great_numbers_have_a_mean() -> None:
    ring = Ring(SIZE, STEP_MS, "mean")
    for value in (3.4e38, -3.4e38, 3.4e38):
        ring.put(0, value)
    assert unpacked(ring, 0, 1)[0] == pytest.approx([3.4e38 / 3], rel=1e-12)


def test_a_ring_takes_over_what_another_knows() -> None:
    old, new = Ring(6, STEP_MS, "last"), Ring(9, STEP_MS, "last")
    for step in range(20):
        old.put(step * STEP_MS, step, good=step != 17)
    new.adopt(old)
    assert new.newest == 19
    assert unpacked(new, 10, 10) == unpacked(old, 10, 10)
    values, states = unpacked(new, 13, 7)
    assert states == [NOTHING, GOOD, GOOD, GOOD, BAD, GOOD, GOOD]
    assert [value for value, state in zip(values, states, strict=True) if state == GOOD] == [14, 15, 16, 18, 19]
    new.put(22 * STEP_MS, 22)
    assert unpacked(new, 18, 5) == ([18, 19, 0, 0, 22], [GOOD, GOOD, NOTHING, NOTHING, GOOD])


def test_nothing_is_taken_over_from_a_ring_that_knows_nothing() -> None:
    ring = Ring(4, STEP_MS, "last")
    ring.adopt(Ring(4, STEP_MS, "last"))
    ring.put(0, 1.0)
    assert unpacked(ring, 0, 1) == ([1.0], [GOOD])


def test_a_jump_of_years_costs_no_more_than_a_step() -> None:
    ring = Ring(SIZE, 1, "last")
    ring.put(0, 1.0)
    ring.put(2**60, 2.0)
    assert unpacked(ring, 2**60 - 1, 2) == ([0.0, 2.0], [NOTHING, GOOD])
    ring.put(0, 3.0)  # long gone
    assert ring.newest == 2**60


def test_a_ring_is_as_large_as_its_steps() -> None:
    ring = Ring(1000, STEP_MS, "mean")
    for number in range(100_000):
        ring.put(number * 100, float(number))
    parts = [part for name in Ring.__slots__ if isinstance(part := getattr(ring, name), array | bytearray)]
    assert sum(memoryview(part).nbytes for part in parts) == 13_000
