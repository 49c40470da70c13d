from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.schedule import BACKOFF_CAP_S, Schedule, backoff_s

origins = st.integers(0, 2**62)
intervals = st.floats(1e-3, 86_400)
lags = st.lists(st.integers(0, 10**12), min_size=1, max_size=50)


@given(origins, intervals, lags)
def test_ticks_stay_on_the_grid_whatever_the_polls_take(origin_ns: int, interval_s: float, poll_ns: list[int]) -> None:
    schedule = Schedule.starting(origin_ns, interval_s)
    tick, now_ns, skipped = schedule.first, origin_ns, 0
    for taken_ns in poll_ns:
        now_ns = max(now_ns, tick.due_ns) + taken_ns
        following = schedule.after(tick, now_ns)
        assert (following.due_ns - origin_ns) % schedule.interval_ns == 0
        assert following.due_ns >= now_ns or following.index == tick.index + 1
        # Nothing is skipped that could still have been kept.
        assert following.skipped == 0 or following.due_ns - schedule.interval_ns < now_ns
        skipped += following.skipped
        tick = following
    assert tick.index == len(poll_ns) + skipped


def test_a_poll_that_is_quick_enough_skips_nothing() -> None:
    schedule = Schedule.starting(1000, 1.0)
    tick = schedule.first
    for _ in range(100):
        tick = schedule.after(tick, tick.due_ns + 999_999_999)
    assert (tick.index, tick.skipped, tick.due_ns) == (100, 0, 1000 + 100 * 10**9)


def test_late_ticks_are_counted_and_not_made_up_for() -> None:
    schedule = Schedule.starting(0, 1.0)
    tick = schedule.after(schedule.first, 3_500_000_000)
    assert (tick.index, tick.due_ns, tick.skipped) == (4, 4_000_000_000, 3)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_backoff_is_capped_and_never_less_than_half(failures: int, luck: float) -> None:
    wait_s = backoff_s(failures, luck)
    unlucky = min(BACKOFF_CAP_S, 2.0 ** min(failures - 1, 64))
    assert unlucky / 2 <= wait_s <= unlucky


def test_backoff_doubles() -> None:
    assert [backoff_s(n, 0.0, base_s=0.5, cap_s=15) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 15, 15]


@given(
    st.sampled_from([30.0, 60.0, 7.3, 100 / 3]),
    st.lists(st.tuples(st.integers(0, 2_592_000), st.floats(0, 7200)), max_size=20),
    st.integers(0, 2**32),
)
@settings(max_examples=10, deadline=None)
def test_a_month_of_polls_never_drifts(interval_s: float, outages: list[tuple[int, float]], seed: int) -> None:
    """Polls that take up to nine tenths of the interval, and hangs of up to two hours: every tick is on the grid."""
    luck = random.Random(seed)
    month_ns, origin_ns = 30 * 86_400 * 10**9, 123_456_789
    schedule = Schedule.starting(origin_ns, interval_s)
    hangs = sorted((origin_ns + at_s * 10**9, int(length_s * 10**9)) for at_s, length_s in outages)
    tick, now_ns, polls, skipped = schedule.first, origin_ns, 0, 0
    while tick.due_ns < origin_ns + month_ns:
        assert tick.due_ns == origin_ns + tick.index * schedule.interval_ns
        now_ns = max(now_ns, tick.due_ns) + int(luck.random() * 0.9 * schedule.interval_ns)
        while hangs and hangs[0][0] <= now_ns:
            now_ns += hangs.pop(0)[1]
        polls += 1
        tick = schedule.after(tick, now_ns)
        skipped += tick.skipped
    assert polls + skipped == tick.index, "each tick of the month was kept or counted"
    assert tick.index == -(-month_ns // schedule.interval_ns) or outages
    if not outages:
        assert skipped == 0
