from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.evaluation.skill import (
    Interval,
    block_length,
    diebold_mariano,
    overlapping,
    ratio_interval,
    skill,
    summed,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

HORIZON = 6


def alike(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Noise of mean 0 as errors of overlapping windows have it: each the mean of the last HORIZON."""
    return np.convolve(random.normal(size=count + HORIZON - 1), np.full(HORIZON, 1 / HORIZON), "valid")


def test_skill_is_the_share_that_is_saved() -> None:
    assert skill(3, 4) == 0.25
    assert skill(4, 4) == 0
    assert skill(0, 0) == 0
    assert skill(1, 0) == -1


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random, hits, trials = np.random.default_rng(3), 0, 300
    for trial in range(trials):
        theirs = 1 + 0.3 * alike(random, 400)
        ours = 0.9 * theirs + 0.3 * alike(random, 400)
        found = ratio_interval(ours, theirs, 2 * HORIZON, trial)
        hits += found.low <= 0.1 <= found.high
    assert 0.91 <= hits / trials <= 0.985


def test_windows_that_overlap_are_no_more_evidence_than_they_are() -> None:
    random, hits = np.random.default_rng(4), 0
    for trial in range(100):
        theirs = 1 + 0.3 * alike(random, 400)
        ours = 0.9 * theirs + 0.3 * alike(random, 400)
        found = ratio_interval(ours, theirs, 1, trial)
        hits += found.low <= 0.1 <= found.high
    assert hits < 80  # blocks of one time would have said 95 %


def test_the_interval_depends_on_the_seed_alone_and_not_on_the_unit() -> None:
    random = np.random.default_rng(5)
    theirs, ours = random.uniform(1, 2, 100), random.uniform(0.5, 2, 100)
    assert ratio_interval(ours, theirs, 4, 1) == ratio_interval(ours, theirs, 4, 1)
    scaled = ratio_interval(8 * ours, 8 * theirs, 4, 1)
    assert scaled.low == pytest.approx(ratio_interval(ours, theirs, 4, 1).low)


def test_with_too_few_blocks_anything_may_be() -> None:
    assert ratio_interval(np.full(30, 0.5), np.ones(30), 10, 1) == Interval(0.5, -1.0, 1.0)


def test_equal_forecasts_have_p_1() -> None:
    assert diebold_mariano(np.zeros(50), 3) == 1


def test_p_is_that_of_students_t_where_nothing_overlaps() -> None:
    difference = np.array([1.0, 2.0, 3.0, 4.0])
    # Mean 2.5, variance 1.25; the correction is (n - 1) / n: t is 2.5 / sqrt(1.25 / 4) x sqrt(3 / 4), of 3 degrees.
    t = 2.5 / math.sqrt(1.25 / 4) * math.sqrt(3 / 4)
    assert t == pytest.approx(3.873, abs=1e-3)
    assert diebold_mariano(difference, 0) == pytest.approx(0.0305, abs=1e-4)
    assert diebold_mariano(-difference, 0) == diebold_mariano(difference, 0)


def test_p_is_uniform_where_both_are_as_good_although_windows_overlap() -> None:
    random = np.random.default_rng(6)
    p = np.array([diebold_mariano(alike(random, 300), HORIZON - 1) for _ in range(400)])
    assert 0.02 <= (p < 0.05).mean() <= 0.11
    naive = np.array([diebold_mariano(alike(random, 300), 0) for _ in range(400)])
    assert (naive < 0.05).mean() > 0.25  # as if each window were news


def test_all_tables_of_a_time_are_one_number() -> None:
    np.testing.assert_array_equal(summed(np.array([1.0, 2.0, 3.0, 4.0]), np.array([5, 5, 6, 9])), [3, 3, 4])


def test_a_block_has_all_whose_outcomes_overlap() -> None:
    end_ms = np.repeat(np.arange(8) * 1000, 2)
    assert overlapping(end_ms, 3000) == 3
    assert overlapping(end_ms, 500) == 1
    assert block_length(end_ms, 3000) == 3
    assert block_length(end_ms, 1000) == 2  # the cube root of 8
    assert block_length(end_ms, 60_000) == 8
