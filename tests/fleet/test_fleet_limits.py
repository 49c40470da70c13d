"""How often somebody may ask."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.serve.limits import _MAX_KNOWN, Limit, Seats, who


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@settings(deadline=None)
@given(
    per_s=st.floats(0.01, 100),
    burst=st.integers(1, 20),
    pauses_s=st.lists(st.floats(0, 30), max_size=100),
)
def test_in_no_span_of_time_are_there_more_than_it_allows(per_s: float, burst: int, pauses_s: list[float]) -> None:
    clock = Clock()
    limit = Limit(per_s, burst, clock)
    taken_at: list[float] = []
    for pause_s in pauses_s:
        clock.now_s += pause_s
        if limit.wait_s("one") == 0:
            taken_at.append(clock.now_s)
    for first, from_s in enumerate(taken_at):
        for count, to_s in enumerate(taken_at[first:], 1):
            assert count <= burst + (to_s - from_s) * per_s + 1e-6


@settings(deadline=None)
@given(per_s=st.floats(0.01, 100), burst=st.integers(1, 20))
def test_who_waits_as_long_as_told_may_go_on(per_s: float, burst: int) -> None:
    clock = Clock()
    limit = Limit(per_s, burst, clock)
    while (wait_s := limit.wait_s("one")) == 0:
        pass
    assert limit.wait_s("another") == 0
    clock.now_s += wait_s * 1.001
    assert limit.wait_s("one") == 0


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=60))
@settings(deadline=None)
def test_no_more_are_served_at_once_than_there_are_seats(steps: list[tuple[bool, str]]) -> None:
    seats, served = Seats(most=4, each=2), Counter[str]()
    for comes, key in steps:
        if comes:
            is_room = served.total() < 4 and served[key] < 2
            assert seats.take(key) == is_room
            served[key] += is_room
        elif served[key]:
            seats.free(key)
            served[key] -= 1
    assert seats._taken == +served


def test_no_more_are_kept_in_mind_than_there_is_room_for() -> None:
    limit = Limit(1, 1, Clock())
    for number in range(_MAX_KNOWN + 10):
        limit.wait_s(str(number))
    assert len(limit._buckets) == _MAX_KNOWN


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "nonsense"),
    ],
)
def test_an_address_is_counted_with_those_of_its_owner(address: str, counted_as: str) -> None:
    assert who(address) == counted_as
