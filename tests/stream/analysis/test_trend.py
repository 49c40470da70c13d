from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.analysis.arrivals import Steps
from stream.analysis.trend import REGIMES, TrendConfig, TrendRows, Trends

STEP_MS = 10_000
CONFIG = TrendConfig()
QUICK = TrendConfig(memory_steps=10, warmup_steps=4, changed_steps=3, change_threshold=5)


def steps(*series: Any) -> Steps:
    """One series each, a number for each step; NaN: the step is not there."""
    found = [(slot, n * STEP_MS, x) for slot, values in enumerate(series) for n, x in enumerate(values) if x == x]  # noqa: PLR0124 - NaN alone is not itself
    slot, at_ms, value = zip(*found, strict=True) if found else ((), (), ())
    return Steps(
        np.array(slot, np.int32), np.array(at_ms, np.int64), np.array(value, float), np.ones(len(slot), np.int32)
    )


def told(found: Steps, slots: int, config: TrendConfig = CONFIG) -> TrendRows:
    trends = Trends(config, STEP_MS)
    trends.grow(slots)
    return trends.advance(found)


def regimes(rows: TrendRows) -> list[str]:
    return [REGIMES[each] for each in rows.regime.tolist()]


def noise(count: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=count)


def test_a_ramp_has_its_slope_and_rises() -> None:
    rows = told(steps(5 + 0.3 * np.arange(500) + 0.1 * noise(500)), 1)
    assert rows.slope_per_s[-1] == pytest.approx(0.03, rel=0.02)
    assert rows.level[-1] == pytest.approx(5 + 0.3 * 499, abs=0.1)
    assert rows.volatility[-1] == pytest.approx(0.1, rel=0.3)
    assert set(regimes(rows)[50:]) == {"up"}
    assert set(regimes(told(steps(-0.3 * np.arange(500)), 1))[50:]) == {"down"}


def test_rows_are_at_the_ends_of_steps_and_begin_when_enough_is_known() -> None:
    rows = told(steps(np.arange(12.0)), 1)
    assert rows.at_ms.tolist() == [(n + 1) * STEP_MS for n in range(7, 12)]


def test_noise_without_a_trend_is_flat_and_unchanged() -> None:
    rows = told(steps(*(noise(1000, seed) for seed in range(50))), 50)
    share = np.bincount(rows.regime, minlength=4) / len(rows.regime)
    assert share[REGIMES.index("flat")] > 0.999
    assert rows.slope_se.min() > 0


def test_the_standard_error_covers_the_slope_of_noise_around_a_line() -> None:
    rows = told(steps(*(noise(400, seed) + 0.01 * np.arange(400) for seed in range(50))), 50)
    off = (rows.slope_per_s - 0.001) / rows.slope_se
    # It allows for a slope that wanders, so that on a line that does not it is twice as wide as need be.
    assert 0.3 < off.std() < 1.0


def test_a_change_of_level_is_told_within_a_minute_and_the_level_follows_at_once() -> None:
    series = noise(600)
    series[400:] += 8
    rows = told(steps(series), 1)
    first = regimes(rows).index("changed")
    assert 0 <= rows.at_ms[first] / STEP_MS - 401 <= 8
    assert rows.level[first + 3] == pytest.approx(8, abs=2)
    assert regimes(rows)[first : first + 31].count("changed") == 30
    assert rows.volatility[-1] == pytest.approx(1, rel=0.3)


def test_one_outlier_changes_neither_level_nor_regime() -> None:
    series = noise(600)
    outlier = series.copy()
    outlier[400] = 1e6
    clean, spoilt = told(steps(series), 1), told(steps(outlier), 1)
    assert np.abs(spoilt.level - clean.level).max() < 0.5
    assert "changed" not in regimes(spoilt)
    assert spoilt.volatility[-1] == pytest.approx(clean.volatility[-1], rel=0.05)


def test_a_constant_is_flat_with_nothing_around_it() -> None:
    rows = told(steps(np.full(300, 0.1)), 1)
    assert set(regimes(rows)) == {"flat"}
    assert rows.level[-1] == pytest.approx(0.1)
    assert rows.slope_se.max() == rows.volatility.max() == 0


def test_a_constant_that_changes_is_followed() -> None:
    rows = told(steps(np.repeat([20.0, 35.0], 200)), 1)
    assert rows.level[-1] == pytest.approx(35.0, abs=0.01)
    assert regimes(rows).count("changed") == 30


def test_a_counter_rises_and_starting_anew_is_a_change() -> None:
    rows = told(steps(np.arange(800) * 7 % 4200), 1)
    assert rows.slope_per_s[500] == pytest.approx(0.7)
    assert set(regimes(rows)[:580]) == {"up"}
    assert "changed" in regimes(rows)[590:605]
    assert regimes(rows)[-1] == "up"


def test_hours_without_readings_make_the_trend_uncertain_not_wrong() -> None:
    series = 0.5 * np.arange(3000) + noise(3000)
    series[1000:2500] = np.nan
    rows = told(steps(series), 1)
    after = np.flatnonzero(rows.at_ms > 2500 * STEP_MS)
    assert np.abs(rows.level[after] - 0.5 * rows.at_ms[after] / STEP_MS).max() < 5
    assert rows.slope_per_s[after] == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_unit_makes_no_difference(scale: float) -> None:
    series = np.cumsum(noise(300))
    plain, scaled = told(steps(series), 1), told(steps(series * scale), 1)
    assert scaled.slope_per_s == pytest.approx(plain.slope_per_s * scale, rel=1e-6)
    assert scaled.regime.tolist() == plain.regime.tolist()


def test_how_seldom_a_series_is_read_makes_no_difference() -> None:
    series = np.cumsum(noise(300))
    seldom = np.full(300 * 90, np.nan)
    seldom[::90] = series
    plain, rare = told(steps(series), 1), told(steps(seldom), 1)
    assert rare.slope_per_s * 90 == pytest.approx(plain.slope_per_s)
    assert rare.regime.tolist() == plain.regime.tolist()


values = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -1.0, 5.0, math.nan])
wild = st.floats(allow_nan=False, allow_infinity=False) | values
# Of these the medians are what is seen, again and again, but for how computers round.
quantised = st.lists(st.integers(0, 6).map(lambda number: 20 + number * 0.1), max_size=40)
many_series = st.lists(st.lists(values, max_size=40) | quantised, min_size=1, max_size=5)


@given(st.lists(st.lists(wild, max_size=30), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_whatever_comes_every_row_can_be_stored(series: list[list[float]]) -> None:
    rows = told(steps(*series), len(series), QUICK)
    for column in (rows.level, rows.slope_per_s, rows.slope_se, rows.volatility):
        assert np.isfinite(column).all()
    assert (rows.slope_se >= 0).all()
    assert (rows.volatility >= 0).all()


@given(many_series, st.lists(st.integers(0, 40), max_size=4))
@settings(max_examples=30, deadline=None)
def test_cuts_and_restored_state_make_no_difference(series: list[list[float]], cuts: list[int]) -> None:
    every = steps(*series)
    whole = told(every, len(series), QUICK)
    state, pieces = None, []
    edges = [0, *sorted(cuts), 1000]
    for start, end in pairwise(edges):
        trends = Trends(QUICK, STEP_MS, state)
        trends.grow(len(series))
        mine = (every.at_ms >= start * STEP_MS) & (every.at_ms < end * STEP_MS)
        pieces.append(trends.advance(Steps(*(getattr(every, name)[mine] for name in Steps.__slots__))))
        state = trends.arrays()
        for array in state.values():
            array.flags.writeable = False
    together = {name: np.concatenate([getattr(each, name) for each in pieces]) for name in TrendRows.__slots__}
    order = np.lexsort((together["at_ms"], together["slot"]))
    for name, column in together.items():
        assert column[order].tolist() == getattr(whole, name).tolist(), name


@given(many_series)
@example([[2.9346835493448764e-10, 1.0, 0.0, 0.0]])
@example([[0.0, 0.0, 0.0, 2.829131402366926e-161]])
@settings(max_examples=30, deadline=None)
def test_it_is_the_filter_of_the_book(series: list[list[float]]) -> None:
    rows = told(steps(*series), len(series), QUICK)
    naive = [(slot, *row) for slot, values in enumerate(series) for row in by_the_book(values, QUICK)]
    assert [(int(s), int(a)) for s, a in zip(rows.slot, rows.at_ms, strict=True)] == [row[:2] for row in naive]
    for column, name in enumerate(("level", "slope_per_s", "slope_se", "volatility"), 2):
        expected = np.array([row[column] for row in naive])
        scale = max(1.0, np.abs(expected).max(initial=0))
        assert getattr(rows, name) == pytest.approx(expected, rel=1e-6, abs=1e-8 * scale), name
    assert regimes(rows) == [row[6] for row in naive]


def by_the_book(values: list[float], config: TrendConfig) -> list[Any]:  # noqa: C901 - the book, in one piece
    """One series in matrices, a step at a time."""
    rows: list[Any] = []
    state, covariance = np.zeros(2), np.diag([1.0, 0.0])
    count = changed = 0
    variance = typical = last_off = correlated = above = below = cadence = 0.0
    last_s = last = math.nan
    for number, value in enumerate(values):
        if math.isnan(value):
            continue
        if count == 0:
            state, last, last_s = np.array([value, 0.0]), value, number * 10.0
        elapsed = number * 10.0 - last_s
        if count == 1:
            covariance[1, 1], cadence = (100 / elapsed) ** 2, elapsed
        elif count > 1:
            cadence = median_followed(cadence, elapsed)
        if abs(value - last) > 1e-9 * abs(value):
            typical = median_followed(typical, abs(value - last))
        age = min(elapsed / cadence, config.memory_steps) / config.memory_steps if cadence else 0.0
        move = np.array([[1.0, elapsed], [0.0, 1.0]])
        state = move @ state
        covariance = move @ covariance @ move.T * math.exp(age)
        factor = 1 + covariance[0, 0]
        innovation = value - state[0]
        scale = math.sqrt(max(variance, (0.3 * typical) ** 2) * factor)
        bound = config.clip * scale if count >= config.warmup_steps else math.inf
        used = min(max(innovation, -bound), bound)
        inflation = (1 + min(max(correlated, 0), 0.9)) / (1 - min(max(correlated, 0), 0.9))
        gain = covariance[:, 0] / factor
        state = state + gain * used
        covariance = covariance - np.outer(gain, covariance[0])
        share = 1 / min(max(count - 1, 1), config.memory_steps)
        if count > 1:
            variance += share * (used**2 / factor - variance)
        off = used / scale if scale > 0 else 0.0
        if count > 1:
            correlated += share * (min(max(off * last_off, -config.clip), config.clip) - correlated)
        shift = off / math.sqrt(inflation) if count >= config.memory_steps / 2 else 0.0
        above = max(0.0, above + shift - config.change_slack)
        below = max(0.0, below - shift - config.change_slack)
        last_off, changed = off, max(changed - 1, 0)
        if max(above, below) > config.change_threshold:
            state, covariance = np.array([value, 0.0]), np.diag([1.0, 1 / cadence**2])
            last_off, above, below, changed = 0.0, 0.0, 0.0, config.changed_steps
        count, last, last_s = count + 1, value, number * 10.0
        if count >= config.warmup_steps:
            rows.append((number * STEP_MS + STEP_MS, *row(state, covariance, variance, correlated, cadence, changed)))
    return rows


def median_followed(median: float, seen: float) -> float:
    if median <= 0:
        return seen
    # A tie, but for how computers round.
    if math.isclose(seen, median, rel_tol=1e-9):
        return median
    return median * math.exp(0.05 * math.copysign(0.5, seen - median))


def row(state: Any, covariance: Any, variance: float, correlated: float, cadence: float, changed: int) -> Any:
    r = min(max(correlated, 0), 0.9)
    # Roots first: the variance of the smallest values is next to the smallest number.
    error = math.sqrt(variance) * math.sqrt(max(covariance[1, 1], 0) * (1 + r) / (1 - r))
    is_trend = abs(state[1]) > max(CONFIG.significant * error, 1e-9 * abs(state[0]) / cadence)
    regime = "changed" if changed else ("up" if state[1] > 0 else "down") if is_trend else "flat"
    return state[0], state[1], error, math.sqrt(variance), regime
