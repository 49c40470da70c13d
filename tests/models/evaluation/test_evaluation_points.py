from __future__ import annotations

import numpy as np

from models.evaluation.points import coefficients, regressors, same_change, same_season, smoothed, trailing_mean
from models.evaluation.tracks import filled

NAN = np.nan


def test_the_season_before_is_the_last_one_known() -> None:
    known = np.arange(10.0)[:, None, None].repeat(2, axis=2)  # [steps, targets, horizons]
    points = same_season(known, (1, 5), season=4)
    # At step 6: of step 7 what was at 3; of step 11, as 7 is not known yet, what was at 3 as well.
    np.testing.assert_array_equal(points[6, 0], [3, 3])
    np.testing.assert_array_equal(points[2, 0], [NAN, NAN])


def test_an_exponential_average_forgets() -> None:
    values = np.array([NAN, 2.0, 4.0, NAN, 8.0])
    expected = [NAN, 2.0, 0.75 * 2 + 0.25 * 4, 0.75 * 2.5 + 0.25 * 4, 0.75 * 2.875 + 0.25 * 8]
    np.testing.assert_allclose(smoothed(values, 0.75), expected)


def test_trailing_means_are_of_whole_spans() -> None:
    np.testing.assert_allclose(trailing_mean(np.array([1.0, 2.0, 6.0]), 2), [NAN, 1.5, 4.0])
    np.testing.assert_allclose(trailing_mean(np.array([NAN, 2.0, 6.0]), 2), [NAN, NAN, 4.0])
    np.testing.assert_allclose(trailing_mean(np.array([1.0, 2.0]), 3), [NAN, NAN])


def test_a_regression_finds_what_made_the_data() -> None:
    seen = regressors(np.random.default_rng(1).uniform(1, 2, 300), (1, 5, 22))
    truth = np.array([[0.1, 0.2], [0.5, 0.4], [0.3, 0.3], [0.1, 0.2]])
    np.testing.assert_allclose(coefficients(seen, seen @ truth), truth, atol=1e-9)
    assert np.isnan(coefficients(seen[:5], seen[:5] @ truth)).all()


def test_the_latest_known_stands_for_what_is_not() -> None:
    np.testing.assert_array_equal(filled(np.array([NAN, 1.0, NAN, 3.0])), [NAN, 1, 1, 3])


def test_the_change_of_a_season_before_is_added_to_the_last_value() -> None:
    values = np.array([0.0, 1, 5, 2, 10, 13, 19, 12])
    points = same_change(values[:, None, None].repeat(2, axis=2), (1, 5), season=4)
    # At step 5, 13: of step 6 what was at 2 less what was at 1; of step 10 a season more has to pass.
    assert points[5, 0, 0] == 13 + (5 - 1)
    assert np.isnan(points[5, 0, 1])
    assert np.isnan(points[3, 0, 0])
