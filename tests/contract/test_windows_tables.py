"""The manifest's rules on small tables, worked out by hand."""

from __future__ import annotations

from math import exp, log, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from contract.manifest import Feature, ModelInput, Target, View, Window
from contract.windows import Steps, absolute, actual, relative, resampled, windows_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DAY_MS = 86_400_000
MONDAY_MS = 1_700_438_400_000  # 2023-11-20 00:00 UTC


def view(*features: tuple[str, tuple[str, ...]], hold_s: float = 0.0, **window: Any) -> View:
    """A window of 3 steps of a second over two inputs."""
    return View(
        inputs=(ModelInput(name="a", hold_s=hold_s), ModelInput(name="b")),
        window=Window(**({"length": 3, "step_s": 1.0} | window)),
        features=tuple(
            Feature(name=f"{place}", transform=transform, of=of)
            for place, (transform, of) in enumerate(features or [("value", ("a",)), ("value", ("b",))])
        ),
    )


def table(seconds: Sequence[float], *rows: tuple[float, float], spoilt: Sequence[tuple[int, int]] = ()) -> Steps:
    is_spoilt = np.zeros((len(rows), 2), bool)
    for row, column in spoilt:
        is_spoilt[row, column] = True
    return Steps(seconds_ms(*seconds), np.asarray(rows, float).reshape(-1, 2), is_spoilt)


def seconds_ms(*seconds: float) -> NDArray[np.int64]:
    return (np.asarray(seconds) * 1000).astype(np.int64)


def test_a_window_ends_with_the_step_before_its_time() -> None:
    made = windows_at(view(), table(range(5), *[(n, 10 * n) for n in range(5)]), seconds_ms(5, 3))
    assert made.is_whole.all()
    assert made.features.tolist() == [[[2, 20], [3, 30], [4, 40]], [[0, 0], [1, 10], [2, 20]]]
    assert made.last.tolist() == [[4, 40], [2, 20]]
    assert made.end_ms.tolist() == [5000, 3000]


def test_what_is_missing_is_the_value_before_it_or_at_the_beginning_after_it() -> None:
    steps = table([1, 2, 3], (7, 1), (nan, nan), (9, nan))
    made = windows_at(view(max_bad_share=0.5), steps, seconds_ms(4, 3))
    assert made.features[0].tolist() == [[7, 1], [7, 1], [9, 1]]  # 3 of 6 are missing
    assert made.is_whole.tolist() == [True, False]  # 4 of 6
    (alone,) = windows_at(view(max_bad_share=0.4), steps, seconds_ms(4)).is_whole
    assert not alone
    early = windows_at(view(max_bad_share=0.5), table([1, 2, 3], (nan, 1), (8, 1), (9, 1)), seconds_ms(4))
    assert early.features[0].tolist() == [[8, 1], [8, 1], [9, 1]]


def test_the_share_that_may_be_missing_is_met_to_the_last_value() -> None:
    rows = [(n, nan if n == 4 else n) for n in range(5)]
    wide = view(("value", ("a",)), length=5, max_bad_share=0.1)
    assert windows_at(wide, table(range(5), *rows), seconds_ms(5)).is_whole.all()


def test_a_value_holds_for_its_time_unless_a_bad_reading_came() -> None:
    held = view(hold_s=2.0, max_bad_share=0.0)
    steps = table([0, 1, 2, 3], (5, 0), (nan, 0), (nan, 0), (nan, 0))
    assert windows_at(held, steps, seconds_ms(3, 4)).is_whole.tolist() == [True, False]
    spoilt = table([0, 1, 2, 3], (5, 0), (nan, 0), (nan, 0), (nan, 0), spoilt=[(1, 0)])
    assert not windows_at(held, spoilt, seconds_ms(3)).is_whole.any()


def test_an_input_without_any_value_means_no_result() -> None:
    steps = table([0, 1, 2], (1, nan), (1, nan), (1, nan))
    assert not windows_at(view(("value", ("a",)), max_bad_share=0.5), steps, seconds_ms(3)).is_whole.any()


def test_features_are_computed_step_by_step() -> None:
    made = windows_at(
        view(("log", ("a",)), ("change", ("a",)), ("log_change", ("b",)), ("log_ratio", ("a", "b"))),
        table([0, 1, 2, 3], (1, 2), (4, 2), (2, 8), (6, 8)),
        seconds_ms(4, 3),
    )
    expected = [[log(4), 3, 0, log(2)], [log(2), -2, log(4), log(1 / 4)], [log(6), 4, 0, log(6 / 8)]]
    assert made.features[0] == pytest.approx(np.asarray(expected))
    # One step more than its length: that is missing, and 2 of 8 are more than may be.
    assert made.is_whole.tolist() == [True, False]


def test_a_logarithm_of_what_is_not_positive_means_no_result() -> None:
    steps = table([0, 1, 2, 3, 4, 5], (0, 1), (1, 1), (1, 1), (1, 1), (-1, 1), (1, 1))
    found = windows_at(view(("log", ("a",))), steps, seconds_ms(3, 4, 5, 6))
    assert found.is_whole.tolist() == [False, True, False, False]


def test_time_turns_once_a_day_a_week_and_a_year() -> None:
    turning = view(*[(name, ()) for name in ("day_sin", "day_cos", "week_sin", "week_cos", "year_sin", "year_cos")],
                   length=1, step_s=21_600.0)  # fmt: skip
    at_ms = np.asarray([0, MONDAY_MS, MONDAY_MS + DAY_MS // 4, MONDAY_MS + 7 * DAY_MS // 2], np.int64)
    steps = Steps(at_ms, np.ones((4, 2)), np.zeros((4, 2), bool))
    made = windows_at(turning, steps, at_ms + DAY_MS // 4).features[:, 0]
    assert made[0, 4:] == pytest.approx([0, 1])
    assert made[1, :4] == pytest.approx([0, 1, 0, 1], abs=1e-9)
    assert made[2, :2] == pytest.approx([1, 0], abs=1e-9)
    assert made[3, 2:4] == pytest.approx([0, -1], abs=1e-9)
    assert made[1, 4] == pytest.approx(np.sin(2 * np.pi * (MONDAY_MS / DAY_MS / 365.2425)))


def test_with_steps_present_a_weekend_is_no_gap_but_a_long_pause_ends_what_is_known() -> None:
    rows = table([0, 1, 4, 5, 20, 21, 22], *[(n, n) for n in range(7)])
    market = view(("change", ("a",)), length=2, steps="present", max_pause_s=3.0)
    made = windows_at(market, rows, seconds_ms(6, 5.9, 23, 22, 100, 2, 0))
    assert made.features[0].tolist() == [[1], [1]]  # of steps 1, 4 and 5
    assert made.features[1].tolist() == [[1], [1]]  # of steps 0, 1 and 4: 5 has not ended
    assert made.is_whole.tolist() == [True, True, True, False, True, False, False]
    endless = view(("value", ("a",)), steps="present")
    assert windows_at(endless, rows, seconds_ms(22)).features[0].tolist() == [[3], [4], [5]]


def test_what_came_is_of_the_steps_after_the_window() -> None:
    rows = table([0, 1, 2, 3, 4, 6], (1, 0), (2, 0), (4, 0), (3, 0), (8, 0), (9, 0))
    targets = [
        Target(name="level", of=("a",)),
        Target(name="movement", transform="change", of=("a",), over="rms"),
    ]
    came = actual(view(), targets, (1, 2), rows, seconds_ms(1, 3, 4))
    assert came[0] == pytest.approx(np.asarray([[2, 4], [1, sqrt((1 + 4) / 2)]]))
    assert came[1] == pytest.approx(np.asarray([[3, 8], [1, sqrt((1 + 25) / 2)]]))
    assert came[2] == pytest.approx(np.asarray([[8, nan], [5, nan]]), nan_ok=True)
    present = actual(view(steps="present"), targets, (1, 2), rows, seconds_ms(4, 6.5))
    assert present[0] == pytest.approx(np.asarray([[8, 9], [5, sqrt((25 + 1) / 2)]]))
    assert present[1] == pytest.approx(np.asarray([[9, nan], [1, nan]]), nan_ok=True)


def test_what_is_told_relative_to_the_last_value_becomes_a_value_again() -> None:
    targets = [
        Target(name="itself", of=("a",)),
        Target(name="since", of=("a",), relative="difference"),
        Target(name="ratio", of=("b",), relative="log_ratio"),
    ]
    values = np.full((2, 3, 1, 2), 6.0)
    last = np.asarray([[4.0, 3.0], [5.0, 2.0]])
    told = relative(view(), targets, values, last)
    assert told[:, :, 0, 0] == pytest.approx(np.asarray([[6, 2, log(2)], [6, 1, log(3)]]))
    assert absolute(view(), targets, told, last) == pytest.approx(values)
    assert values.tolist() == np.full((2, 3, 1, 2), 6.0).tolist()


def test_quantiles_come_in_rising_order_and_nothing_has_a_ratio_to_what_is_not_positive() -> None:
    targets = [Target(name="ratio", of=("a",), relative="log_ratio")]
    told = np.asarray([[[[0.5, -1.0, 0.0]]], [[[0.0, 0.0, 0.0]]]])
    values = absolute(view(), targets, told, np.asarray([[10.0, 0.0], [0.0, 0.0]]))
    assert values[0, 0, 0] == pytest.approx([10 * exp(-1), 10, 10 * exp(0.5)])
    assert np.isnan(values[1]).all()
    without_quantiles = absolute(view(), targets, told[:, :, 0], np.asarray([[10.0, 0.0], [1.0, 0.0]]))
    assert without_quantiles[0, 0] == pytest.approx([10 * exp(0.5), 10 * exp(-1), 10])


def test_of_equal_times_the_reading_that_stands_later_is_the_last() -> None:
    inputs = (ModelInput(name="last"), ModelInput(name="mean", resample="mean"))
    at_ms = seconds_ms(2.5, 0.9, 0.1, 2.5, 5.0)
    made = resampled(inputs, view().window, [at_ms] * 2, [np.asarray([1.0, 2.0, 4.0, 3.0, nan])] * 2)
    assert made.at_ms.tolist() == [0, 2000, 5000]
    np.testing.assert_array_equal(made.values, np.asarray([[2, 3], [3, 2], [nan, nan]]))
    assert made.is_spoilt.tolist() == [[False, False], [False, False], [True, True]]


def test_nothing_gives_nothing() -> None:
    none = np.empty(0)
    steps = resampled(view().inputs, view().window, [none.astype(np.int64)] * 2, [none] * 2)
    assert steps.values.shape == (0, 2)
    for counted in ("clock", "present"):
        assert windows_at(view(steps=counted), steps, seconds_ms(1, 2)).is_whole.tolist() == [False, False]
        assert windows_at(view(steps=counted), steps, seconds_ms()).features.shape == (0, 3, 2)
        came = actual(view(steps=counted), [Target(name="a", of=("a",))], (1,), steps, seconds_ms(1))
        assert np.isnan(came).all()


def test_many_windows_are_as_each_alone() -> None:
    """More than are worked on at once, in any order, over steps of which many are missing."""
    rng = np.random.default_rng(7)
    steps = table(np.flatnonzero(rng.random(30_000) < 0.7).tolist()[:20_000], *rng.normal(size=(20_000, 2)))
    wanted = view(("change", ("a",)), ("value", ("b",)), hold_s=1.0, length=20, max_bad_share=0.2)
    ends = rng.permutation(seconds_ms(*range(30_000)))
    together = windows_at(wanted, steps, ends)
    assert 0.05 < together.is_whole.mean() < 0.95
    for place in rng.choice(30_000, 50):
        alone = windows_at(wanted, steps, ends[place : place + 1])
        assert alone.is_whole[0] == together.is_whole[place]
        if alone.is_whole[0]:
            np.testing.assert_array_equal(alone.features[0], together.features[place])
