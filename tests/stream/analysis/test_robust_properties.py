"""The detectors on whatever comes: as one series at a time, with lists, would have it, and however it is cut."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.analysis.anomalies import Anomalies, AnomalyConfig
from stream.analysis.arrivals import Steps
from stream.analysis.incidents import IncidentConfig
from stream.analysis.robust import RobustAnomalies, RobustConfig

if TYPE_CHECKING:
    from stream.analysis.scores import Scores

STEP_MS = 10_000
QUICK = RobustConfig(
    window=10, every=2, warmup=5, adopt_steps=8, counter_steps=12, season_s=100, season_parts=2, season_memory=3
)


def steps_of(series: list[list[float]]) -> Steps:
    """NaN: the step is not there."""
    rows = [(slot, n, x) for slot, each in enumerate(series) for n, x in enumerate(each) if not math.isnan(x)]
    slot, number, value = np.array(rows, float).reshape(-1, 3).T
    return Steps(slot.astype(np.int32), number.astype(np.int64) * STEP_MS, value, np.ones(len(rows), np.int32))


def scored(series: list[list[float]]) -> Scores:
    robust = RobustAnomalies(QUICK, STEP_MS)
    robust.grow(len(series))
    return robust.advance(steps_of(series))


values = st.floats(-1e3, 1e3) | st.sampled_from([0.0, 1.0, 5.0, math.nan])
wild = st.floats(allow_nan=False, allow_infinity=False) | values
# Of these the medians are what is seen, again and again, but for how computers round.
quantised = st.lists(st.integers(0, 6).map(lambda number: 20 + number * 0.1), max_size=60)
rising = st.builds(lambda rises: np.cumsum(np.abs(rises)).tolist(), st.lists(st.floats(0, 9), max_size=60))
patterns = st.lists(values, max_size=60) | quantised | rising
many_series = st.lists(patterns, min_size=1, max_size=4)


@given(st.lists(st.lists(wild, max_size=60), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_whatever_comes_scores_are_numbers(series: list[list[float]]) -> None:
    scores = scored(series)
    assert np.isfinite(scores.score).all()
    assert (scores.score >= 0).all()
    assert np.isfinite(scores.expected).all()


@given(many_series, st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=30, deadline=None)
def test_cuts_and_restored_state_make_no_difference(series: list[list[float]], cuts: list[int]) -> None:
    every, config = steps_of(series), AnomalyConfig(robust=QUICK, robust_incidents=IncidentConfig(least_steps=1))
    whole = Anomalies(config, STEP_MS)
    whole.grow(len(series))
    expected = whole.advance(every)
    told, state = [], None
    for start, end in pairwise([0, *sorted(cuts), 100]):
        anomalies = Anomalies(config, STEP_MS, state)
        anomalies.grow(len(series))
        mine = (every.at_ms >= start * STEP_MS) & (every.at_ms < end * STEP_MS)
        told.append(anomalies.advance(Steps(*(getattr(every, name)[mine] for name in Steps.__slots__))))
        state = anomalies.arrays()
        for array in state.values():
            array.flags.writeable = False
    assert state is not None
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(state[name], array, name)
    for detector, wanted in enumerate(expected):
        pieces = [each[detector].rows for each in told]
        for column in ("started_at_ms", "ended_at_ms", "peak_score"):
            order = np.argsort(np.concatenate([each.slot for each in pieces]), kind="stable")
            together = np.concatenate([getattr(each, column) for each in pieces])[order]
            np.testing.assert_array_equal(together, getattr(wanted.rows, column))


@given(many_series)
@example([[0.0, 1.0, 3.0, 0.0, 0.5, 0.0, 1.0, 0.0]])
@settings(max_examples=30, deadline=None)
def test_it_is_what_one_series_at_a_time_gives(series: list[list[float]]) -> None:
    scores = scored(series)
    naive = [(slot, *row) for slot, each in enumerate(series) for row in Naive().scores(each)]
    assert [(int(s), int(a)) for s, a in zip(scores.slot, scores.at_ms, strict=True)] == [row[:2] for row in naive]
    assert scores.expected == pytest.approx([row[2] for row in naive], rel=1e-6, abs=1e-9)
    assert scores.score == pytest.approx([row[3] for row in naive], rel=1e-6, abs=1e-9)


class Spread:
    """The median and the 99th percentile of how far off a series is."""

    def __init__(self) -> None:
        self.median = self.tail = 0.0
        self.learnt = 0

    def sigma(self) -> float:
        return max(self.median * 1.4826, self.tail / 2.5758)

    def learn(self, off: float, first: float) -> None:
        if self.learnt == 0:
            self.median, self.tail = first / 1.4826, first * 2.5758
        pace = max(0.02, 1 / (self.learnt + 8))
        self.median, self.tail = follow(self.median, off, 0.5, pace), follow(self.tail, off, 0.99, pace)
        self.learnt += 1


def follow(estimate: float, seen: float, level: float, pace: float) -> float:
    if estimate <= 0:
        return seen
    if math.isclose(seen, estimate, rel_tol=1e-9):
        return estimate
    return estimate * math.exp(pace * (level if seen > estimate else level - 1))


def is_more(one: float, than: float) -> bool:
    return one > than and not math.isclose(one, than, rel_tol=1e-9)


class Naive:
    """One series, with lists."""

    def __init__(self) -> None:
        self.begin()
        self.last: tuple[int, float] | None = None
        self.unfallen = self.rises = 0
        self.is_counter = False

    def begin(self) -> None:
        self.window: list[float] = []
        self.wait = self.run = 0
        self.value, self.typical = math.nan, 0.0
        self.local, self.season = Spread(), Spread()
        self.part = -1
        self.parts = [[0.0, 0, 0] for _ in range(QUICK.season_parts)]

    def scores(self, values: list[float]) -> list[Any]:
        found = []
        for number, value in enumerate(values):
            if math.isnan(value):
                continue
            base, factor, signal = self.signal(number, value)
            row = self.step(number, signal, factor) if math.isfinite(signal) else None
            self.last = (number, value)
            if row:
                found.append(((number + 1) * STEP_MS, base + factor * row[0], row[1]))
        return found

    def signal(self, number: int, value: float) -> tuple[float, float, float]:
        before, last = self.last or (number, value)
        self.elapsed = (number - before) * 10.0
        change, least = value - last, 1e-9 * abs(value)
        rolled_over = self.is_counter and change < -least and 0 <= value < 0.5 * last
        if change < -least and not rolled_over:
            self.unfallen = self.rises = 0
        else:
            self.unfallen += 1
            self.rises += change > least
        is_counter = self.unfallen >= QUICK.counter_steps and self.rises >= 0.1 * QUICK.counter_steps
        if is_counter != self.is_counter:
            self.begin()
        self.is_counter = is_counter
        if not is_counter:
            return 0.0, 1.0, value
        return last, self.elapsed, math.nan if rolled_over else change / self.elapsed

    def step(self, number: int, signal: float, _: float) -> tuple[float, float] | None:
        change, before = abs(signal - self.value), self.typical
        if change > 1e-9 * abs(signal):
            self.typical = follow(self.typical, change, 0.5, 0.05)
        least = before if before > 0 else self.typical
        self.value = signal
        window = self.window[-QUICK.window :]
        center = float(np.median(window)) if window else 0.0
        mad = float(np.median(np.abs(np.array(window) - center))) * 1.4826 if window else 0.0
        sigma = max(mad, self.local.sigma(), least)
        part = number * 10 // 50 % 2
        level, count, visits = self.parts[part]
        visits += part != self.part
        season_sigma = max(self.season.sigma(), least) if visits >= 3 else math.inf
        expected, used = (level, season_sigma) if is_more(sigma, season_sigma) else (center, sigma)
        score = min(abs(signal - expected) / used, 1e100) if used > 0 else 0.0
        is_ready = len(self.window) >= QUICK.warmup
        if is_ready:
            self.run = self.run + 1 if is_more(score, QUICK.unusual) else 0
            if self.run <= 3 or self.run > QUICK.adopt_steps:
                self.local.learn(abs(signal - center), mad)
                if visits > 1:
                    self.season.learn(abs(signal - level), sigma)
            share = max(1 / (count + 1), min(self.elapsed, 50) / (3 * 50))
            off = signal - level
            off = min(max(off, -2 * sigma), 2 * sigma) if count else off
            self.parts[part] = [level + share * off, count + 1, visits]
            self.part = part
        self.put(signal, expected, used)
        return (expected, score) if is_ready else None

    def put(self, signal: float, expected: float, sigma: float) -> None:
        is_new_level = self.run > QUICK.adopt_steps
        if self.wait > 0 and not is_new_level:
            self.wait -= 1
            return
        if self.run and not is_new_level:
            signal = min(max(signal, expected - QUICK.unusual * sigma), expected + QUICK.unusual * sigma)
        self.wait = max(QUICK.every * min(len(self.window), QUICK.window) // QUICK.window, 1) - 1
        self.window.append(signal)
