"""How a line's slowness is noticed."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from edge.uplink.pace import MOST, Pace


@given(st.lists(st.one_of(st.none(), st.floats(0, 5)), max_size=200))
def test_there_is_always_room_for_one_and_never_for_more_than_the_most(steps: list[float | None]) -> None:
    pace, now_s, out = Pace(), 0.0, deque[float]()
    for took_s in steps:
        if took_s is None and pace.room > 0:
            out.append(now_s)
            pace.sent()
        elif took_s is not None and out:
            now_s += took_s
            pace.answered(out.popleft(), now_s)
        assert len(out) <= MOST
        assert out or pace.room >= 1


def drive(bytes_per_s: float, round_trip_s: float, for_s: float) -> tuple[float, int]:
    """A line of so many bytes a second; returns the longest queue in seconds once settled, and how much was sent."""
    pace, now_s, free_at_s, sent, longest_s = Pace(), 0.0, 0.0, 0, 0.0
    out = deque[tuple[float, float]]()
    while now_s < for_s:
        while pace.room > 0:
            free_at_s = max(free_at_s, now_s) + 4000 / bytes_per_s
            out.append((now_s, free_at_s + round_trip_s))
            pace.sent()
            sent += 1
        if now_s > for_s / 2:
            longest_s = max(longest_s, free_at_s - now_s)
        sent_at_s, now_s = out.popleft()
        pace.answered(sent_at_s, now_s)
    return longest_s, sent


def test_a_slow_line_carries_few_at_a_time_and_is_used_all_the_same() -> None:
    longest_s, sent = drive(bytes_per_s=10_000, round_trip_s=0.1, for_s=200)
    # A batch takes 0.4 s by itself; sixty-four of them would keep a live one waiting for 26 s.
    assert longest_s < 2.5
    assert sent * 4000 > 0.8 * 10_000 * 200


def test_a_long_line_is_filled() -> None:
    _, sent = drive(bytes_per_s=1e7, round_trip_s=0.6, for_s=60)
    assert sent > 0.9 * MOST * 60 / 0.6 * 0.8
