"""Thresholds, precision, skill and the scores without a net: against hand-computed numbers and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.anomaly.precision import Ranking, gain, ranked
from models.anomaly.reference import PrincipalComponents, RobustZ
from models.anomaly.scaling import unforeseen
from models.anomaly.threshold import least_rate, threshold_of
from models.errors import TrainingError


def ranking(scores: list[float], wrong: list[int]) -> Ranking:
    return ranked(np.array(scores, np.float32), np.array(wrong, bool))


def test_the_threshold_is_an_order_statistic() -> None:
    scores = np.random.default_rng(1).permutation(np.arange(1, 1000, dtype=np.float32))
    threshold = threshold_of(scores, 999, 0.01)
    # Of 1,000 places that a new score may have among 999, ten are above the tenth highest.
    assert (threshold.level, threshold.clear) == (990.0, 900.0)
    assert threshold.low < 0.01 < threshold.high
    # The interval of a share of 10 in 999 (beta distribution).
    assert (threshold.low, threshold.high) == pytest.approx((0.00481, 0.0171), rel=0.01)


def test_the_stated_rate_holds_on_fresh_data() -> None:
    rng = np.random.default_rng(2)
    shares, inside = [], 0
    for _ in range(200):
        threshold = threshold_of(rng.lognormal(size=2000).astype(np.float32), 2000, 0.005)
        share = float((rng.lognormal(size=50_000) > threshold.level).mean())
        shares.append(share)
        inside += threshold.low <= share <= threshold.high
    assert np.mean(shares) == pytest.approx(0.005, rel=0.08)
    assert 180 <= inside <= 199


def test_overlapping_windows_are_worth_less() -> None:
    rng = np.random.default_rng(3)
    inside, narrow = 0, 0
    for _ in range(200):
        old, new = (np.convolve(rng.normal(size=6019) ** 2, np.ones(20) / 20, "valid") for _ in range(2))
        threshold = threshold_of(old.astype(np.float32), len(old) / 20, 0.01)
        share = float((new > threshold.level).mean())
        inside += threshold.low <= share <= threshold.high
        wrong = threshold_of(old.astype(np.float32), len(old), 0.01)
        narrow += wrong.low <= share <= wrong.high
    assert inside >= 180
    # Taken for independent, half of them would be outside.
    assert narrow < 150


def test_a_rate_that_cannot_be_shown_is_refused() -> None:
    scores = np.arange(1000, dtype=np.float32)
    with pytest.raises(TrainingError, match=r"90 independent windows cannot show .* 0.01: wanted are 100, or .* 0.012"):
        threshold_of(scores, 90, 0.01)
    assert threshold_of(scores, 90, 0.012).rate == 0.012


@given(st.floats(1.0, 1e6))
def test_the_least_rate_can_just_be_shown(independent: float) -> None:
    rate = least_rate(independent)
    assert 1 - 1e-9 <= rate * independent < 1.11
    scores = np.arange(10, dtype=np.float32)
    threshold_of(scores, independent, rate)
    with pytest.raises(TrainingError):
        threshold_of(scores, independent, 0.9 * rate)


def test_a_threshold_is_above_zero() -> None:
    threshold = threshold_of(np.zeros(1000, np.float32), 1000, 0.01)
    assert 0 < threshold.clear <= threshold.level


def test_average_precision_by_hand() -> None:
    # From the top: right, wrong, right, wrong: 1/2 x 1 + 1/2 x 2/3.
    assert ranking([4, 3, 2, 1], [1, 0, 1, 0]).average_precision() == pytest.approx(5 / 6)
    assert ranking([4, 3, 2, 1], [1, 1, 0, 0]).average_precision() == 1.0
    # Who tells nothing apart has the share of what is wrong, in whatever order they stand.
    assert ranking([1, 1, 1, 1], [1, 0, 0, 0]).average_precision() == 0.25
    assert ranking([1, 1, 1, 1], [0, 0, 0, 1]).average_precision() == 0.25
    assert math.isnan(ranking([1, 2], [0, 0]).average_precision())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans()), min_size=1, max_size=30))
def test_weights_are_repetitions(rows: list[tuple[int, int, bool]]) -> None:
    scores, counts, wrong = (np.array(column) for column in zip(*rows, strict=True))
    weighted = ranked(scores.astype(np.float32), wrong).average_precision(counts.astype(np.float64))
    repeated = ranked(np.repeat(scores, counts).astype(np.float32), np.repeat(wrong, counts)).average_precision()
    assert weighted == pytest.approx(repeated, nan_ok=True)


def test_the_curve_ends_where_everything_is_told() -> None:
    recall, precision = ranking([4, 3, 2, 1], [1, 0, 1, 0]).curve()
    assert recall.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert precision.tolist() == pytest.approx([1.0, 0.5, 2 / 3, 0.5])


def test_skill_is_the_share_of_the_missing_precision() -> None:
    ours, theirs = ranking([4, 3, 2, 1], [1, 0, 1, 0]), ranking([1, 1, 1, 1], [1, 0, 1, 0])
    won = gain([ours], theirs, np.arange(4), 1)
    assert won.skill == pytest.approx(1 - (1 / 6) / (1 / 2))
    # Four blocks are too few for an interval.
    assert (won.low, won.high) == (-1.0, 1.0)


def test_no_skill_is_shown_where_there_is_none() -> None:
    rng = np.random.default_rng(4)
    wrong, blocks = rng.random(4000) < 0.2, np.repeat(np.arange(40), 100)
    noise = [ranked(rng.random(4000).astype(np.float32), wrong) for _ in range(3)]
    same = gain(noise[:2], noise[2], blocks, 1)
    assert same.low < 0 < same.high
    good = ranked((wrong + rng.normal(0, 0.5, 4000)).astype(np.float32), wrong)
    better = gain([good], noise[0], blocks, 1)
    assert 0 < better.low < better.skill < better.high < 1
    assert gain([good], noise[0], blocks, 1) == better


def test_robust_z_is_not_moved_by_outliers() -> None:
    x = np.random.default_rng(5).normal((10, -5), (2, 0.1), (2000, 4, 2)).astype(np.float32)
    x[:20] = 1e6
    robust = RobustZ.fitted(x)
    assert robust.median == pytest.approx([10, -5], abs=0.15)
    assert robust.scale == pytest.approx([2, 0.1], rel=0.1)
    window = np.full((1, 4, 2), (10, -5), np.float32)
    window[0, -1] += 3 * robust.scale
    assert robust.newest(window)[0] == pytest.approx(9, rel=0.1)
    assert robust.window(window)[0] == pytest.approx(9 / 4, rel=0.1)


def test_what_hardly_ever_moves_has_a_scale_all_the_same() -> None:
    x = np.zeros((1000, 1, 2), np.float32)
    x[:10, 0, 0] = 1
    assert RobustZ.fitted(x).scale == pytest.approx([np.sqrt(0.01 * 0.99), 1e-6], rel=0.01)


def test_principal_components_keep_what_is_common() -> None:
    rng = np.random.default_rng(6)
    common = rng.normal(size=(500, 1)) @ rng.normal(size=(1, 12))
    x = common.reshape(500, 4, 3).astype(np.float32)
    components = PrincipalComponents.fitted(x, 1)
    assert components.basis.shape == (1, 12)
    assert components.scores(x).max() < 1e-9
    odd = x[:1].copy()
    odd[0, 2, 1] += 6
    assert 0 < components.scores(odd)[0] <= 36 / 12


def test_what_others_foretell_counts_for_more() -> None:
    rng = np.random.default_rng(7)
    a, noise, alone = rng.normal(size=(3, 5000))
    rows = np.stack([a, (a + 0.1 * noise) / np.sqrt(1.01), alone], axis=1)
    assert unforeseen(rows) == pytest.approx([0.1, 0.1, 1.0], rel=0.05)
    twice = np.stack([a, a, alone], axis=1)
    assert unforeseen(twice)[:2] == pytest.approx([0, 0], abs=0.01)
