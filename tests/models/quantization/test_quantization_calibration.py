from __future__ import annotations

import numpy as np
import pytest

from models.errors import ConversionError
from models.quantization.calibration import WINDOWS, check_range, evenly, representative

NORMAL = np.random.default_rng(2).normal(size=(2000, 10, 2)).astype(np.float32)


def range_of(low: float, high: float) -> tuple[float, int]:
    """The scale and zero point that a converter chooses for it."""
    scale = (high - low) / 255
    return scale, round(-128 - low / scale)


def test_what_is_calibrated_by_is_some_of_what_was_learnt_from() -> None:
    found = representative(NORMAL, np.zeros((2000, 1)))
    assert found.shape == (WINDOWS + 1, 10, 2)
    found = found[:WINDOWS]
    kept = np.array([(found[place] == NORMAL[index]).mean() for place, index in enumerate(evenly(WINDOWS, 2000))])
    assert kept.min() > 0.8
    assert (kept == 1).mean() > 0.9


def test_an_outlier_does_not_set_the_range() -> None:
    spiked = NORMAL.copy()
    spiked[::400, 3, 0] = 1000
    assert np.abs(representative(spiked, np.zeros((2000, 1)))[:WINDOWS]).max() < 5
    assert np.abs(representative(spiked, np.zeros((2000, 1)))).max() == 16


def test_what_is_seldom_told_is_calibrated_by_too() -> None:
    outputs = np.zeros((2000, 2))
    outputs[3, 0], outputs[7, 1], outputs[11, 1] = 5, -6, 7
    rare = representative(NORMAL, outputs)[WINDOWS:]
    np.testing.assert_array_equal(rare, NORMAL[[0, 3, 7, 11]])


def test_fewer_than_wanted_are_all() -> None:
    assert evenly(300, 7).tolist() == list(range(7))
    assert evenly(3, 9).tolist() == [0, 4, 8]


def test_a_range_that_fits() -> None:
    check_range(range_of(-4, 4), NORMAL)


def test_a_range_that_cuts_off_what_was_learnt_is_noticed() -> None:
    with pytest.raises(ConversionError, match=r"to 1, cuts off 3\d\.\d% of the values trained on"):
        check_range(range_of(-1, 1), NORMAL)


def test_a_range_of_outliers_is_noticed() -> None:
    with pytest.raises(ConversionError, match=r"leaves 0\.\d levels for a standard deviation"):
        check_range(range_of(-1000, 1000), NORMAL)


def test_what_was_not_calibrated_is_noticed() -> None:
    with pytest.raises(ConversionError, match="no int8 tensor"):
        check_range(None, NORMAL)
