from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.measures import (
    absolute_error,
    is_within,
    mase,
    mean,
    mean_over_first,
    median_of,
    pinball,
    reliability,
    rmse,
    width,
)

QUANTILES = (0.1, 0.5, 0.9)
Y = np.array([[1.0], [4.0]])
TOLD = np.array([[[0.0, 2.0, 3.0]], [[0.0, 2.0, 3.0]]])  # [windows, horizons, quantiles]


def test_pinball_is_what_it_is_by_hand() -> None:
    # Of 1: below p10 by nothing, 0.1 x 1; p50 is 1 too high, 0.5 x 1; p90 is 2 too high, 0.1 x 2. Of 4 likewise.
    expected = [[[0.1, 0.5, 0.2]], [[0.4, 1.0, 0.9]]]
    np.testing.assert_allclose(pinball(Y, TOLD, QUANTILES), expected)


def test_pinball_of_the_median_is_half_its_absolute_error() -> None:
    random = np.random.default_rng(1)
    y, told = random.normal(size=(50, 3)), np.sort(random.normal(size=(50, 3, 3)), axis=-1)
    np.testing.assert_allclose(pinball(y, told, QUANTILES)[..., 1], absolute_error(y, told, QUANTILES) / 2)


def test_pinball_is_least_for_the_true_quantile() -> None:
    y = np.random.default_rng(2).normal(size=20_000)
    tried = np.linspace(-2, 2, 81)
    losses = [pinball(y, np.full((len(y), 1), each), (0.9,)).mean() for each in tried]
    assert tried[int(np.argmin(losses))] == pytest.approx(1.2816, abs=0.06)


def test_scores_by_hand() -> None:
    assert mase(Y, TOLD, QUANTILES, np.array([[2.0], [0.5]])) == pytest.approx((1 / 2 + 2 / 0.5) / 2)
    assert rmse(Y, TOLD, QUANTILES) == pytest.approx(np.sqrt((1 + 4) / 2))
    np.testing.assert_array_equal(is_within(Y, TOLD), [[1], [0]])
    np.testing.assert_array_equal(width(TOLD), [[3], [3]])
    np.testing.assert_array_equal(reliability(Y, TOLD), [0.0, 0.5, 0.5])


def test_the_middle_lies_between_the_quantiles_beside_it() -> None:
    told = np.array([[0.0, 1.0, 5.0]])
    assert median_of(told, (0.1, 0.5, 0.9)) == 1
    assert median_of(told[:, :2], (0.4, 0.6)) == 0.5
    assert median_of(told[:, :2], (0.1, 0.3)) == 1
    assert median_of(told[:, :1], (0.2,)) == 0


def test_what_is_not_known_does_not_count() -> None:
    y, told = np.vstack([Y, Y]), np.concatenate([TOLD, np.full_like(TOLD, np.nan)])
    assert rmse(y, told, QUANTILES) == rmse(Y, TOLD, QUANTILES)
    assert mean(is_within(y, told)) == 0.5
    np.testing.assert_array_equal(reliability(y, told), reliability(Y, TOLD))
    assert np.isnan(mean(np.array([np.nan])))
    np.testing.assert_array_equal(mean_over_first(np.array([[1.0, np.nan], [3.0, np.nan]])), [2, np.nan])
