"""Who sends: by urgency, by rate, and never never."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.lane import Lane
from edge.uplink.turns import STARVED_S, Bucket, Rate, Turns

ALL = dict.fromkeys(Lane, 1000)
AMOUNTS = st.floats(0.1, 50)
STEPS = st.lists(st.tuples(st.floats(0, 0.5), st.dictionaries(st.sampled_from(Lane), st.integers(0, 3))), max_size=80)


@given(st.floats(0.5, 100), st.floats(0, 100), st.lists(st.tuples(st.floats(0, 3), AMOUNTS), max_size=60))
def test_a_bucket_gives_no_more_than_its_rate_its_burst_and_one_last_taking(
    per_s: float, burst: float, wishes: list[tuple[float, float]]
) -> None:
    bucket, now_s, taken = Bucket(per_s, burst), 100.0, 0.0
    for pause_s, amount in wishes:
        now_s += pause_s
        if not bucket.wait_s(now_s):
            assert taken <= burst + (now_s - 100) * per_s + 1e-6
            bucket.take(amount, now_s)
            taken += amount


@given(st.floats(0.5, 100), st.floats(0, 10), AMOUNTS)
def test_after_the_wait_a_bucket_gives(per_s: float, burst: float, amount: float) -> None:
    bucket = Bucket(per_s, burst)
    bucket.take(amount, 5)
    wait_s = bucket.wait_s(5)
    assert wait_s == pytest.approx(max(0, (amount - burst) / per_s))
    assert wait_s < 1e-6 or bucket.wait_s(5 + wait_s * 0.9)
    assert not bucket.wait_s(5 + wait_s + 1e-6)


@given(STEPS)
def test_whatever_comes_the_most_urgent_is_sent_but_for_one_batch_in_a_while(
    steps: list[tuple[float, dict[Lane, int]]],
) -> None:
    turns, now_s, last_favour_s = Turns({}), 0.0, -math.inf
    for pause_s, waiting in steps:
        now_s += pause_s
        able = [lane for lane in Lane if waiting.get(lane)]
        turn = turns.whose(waiting, now_s)
        assert (turn is None) == (not able)
        if turn is None:
            continue
        lane, most = turn
        if lane is able[0]:
            assert most == waiting[lane]
        else:
            assert most == 1, "one batch, and the urgent ones go on"
            assert now_s - last_favour_s >= STARVED_S
            last_favour_s = now_s
        turns.sent(lane, 100, now_s)


@given(st.integers(100, 100_000), st.floats(1, 500), st.integers(1, 5000), st.integers(1, 40))
def test_replay_keeps_to_its_rates_beside_live_data_that_never_ends(
    bytes_per_s: int, batches_per_s: float, size_bytes: int, speed: int
) -> None:
    turns = Turns({Lane.BACKFILL: Rate(bytes_per_s, batches_per_s), Lane.IMAGE: Rate(bytes_per_s)})
    sent = dict.fromkeys(Lane, 0)
    steps = 200
    for step in range(steps):
        now_s = step / speed
        turn = turns.whose(ALL, now_s)
        assert turn is not None
        turns.sent(turn[0], size_bytes, now_s)
        sent[turn[0]] += 1
    seconds = steps / speed
    assert sent[Lane.BACKFILL] <= 1 + batches_per_s * (1 + seconds)
    assert sent[Lane.BACKFILL] * size_bytes <= bytes_per_s * (1 + seconds) + size_bytes


def test_nobody_starves_even_beside_alarms_that_never_end() -> None:
    turns = Turns({})
    last = dict.fromkeys(Lane, 0.0)
    for step in range(2000):
        now_s = step / 100
        turn = turns.whose(ALL, now_s)
        assert turn is not None
        turns.sent(turn[0], 100, now_s)
        last[turn[0]] = now_s
        assert all(now_s - at_s <= len(Lane) * STARVED_S + 0.1 for at_s in last.values())


def test_images_wait_for_all_else_unless_that_is_held_back() -> None:
    turns = Turns({Lane.BACKFILL: Rate(1000, 2), Lane.IMAGE: Rate(1000)})
    waiting = {Lane.BACKFILL: 5, Lane.IMAGE: 5}
    order = []
    for _ in range(3):
        turn = turns.whose(waiting, 0)
        assert turn is not None
        turns.sent(turn[0], 100, 0)
        order.append(turn[0])
    assert order == [Lane.BACKFILL, Lane.BACKFILL, Lane.IMAGE]
    assert not turns.may_go_on(Lane.BACKFILL, 0)


def test_who_waits_for_its_rate_is_waited_for_and_a_stop_lifts_it() -> None:
    turns = Turns({Lane.BACKFILL: Rate(1000)})
    turns.sent(Lane.BACKFILL, 3000, 0)
    assert turns.whose({Lane.BACKFILL: 1}, 0) is None
    assert turns.wait_s({Lane.BACKFILL: 1}, 0) == pytest.approx(2)
    assert math.isinf(turns.wait_s({Lane.BACKFILL: 0}, 0))
    turns.lift()
    assert turns.whose({Lane.BACKFILL: 1}, 0) == (Lane.BACKFILL, 1)
