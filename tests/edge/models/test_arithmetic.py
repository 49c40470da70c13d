"""Windows, scaling and scores, held against the plainest way to say the same."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.arithmetic import NoWindowError, features_of, result_of, scaled, window_of
from edge.inference.settings import (
    BAD,
    DIRECT,
    FORECAST,
    GOOD,
    NOTHING,
    RECONSTRUCTION,
    FeatureSettings,
    ModelSettings,
    TargetSettings,
)

SETTINGS = ModelSettings(
    key="k",
    directory="d",
    forms=(),
    length=4,
    reach=0,
    rows=6,
    step_ms=1000,
    inputs=("a", "b"),
    hold_steps=(2, 0),
    max_bad_share=0.25,
    features=(FeatureSettings("a", "value", (0,), 10.0, 2.0), FeatureSettings("b", "value", (1,), 0.0, 1.0)),
    output=FORECAST,
    out_shape=(2, 1, 2),
    targets=(TargetSettings(1.0, 3.0, None, 0), TargetSettings(2.0, 4.0, "difference", 1)),
)
# 2026-01-05 was a Monday.
MONDAY_MS = 1_767_571_200_000
HOUR_MS = 3_600_000
LAST = np.array([5.0, 7.0])
NONE = np.zeros((1, 4, 2), np.float32)


def plain_window(values: Any, states: Any, settings: ModelSettings) -> list[list[float | None]]:
    """Column by column, with None for what is missing."""
    columns = []
    for value, state, hold in zip(values, states, settings.hold_steps, strict=True):
        column: list[float | None] = []
        held: tuple[int, float] | None = None
        for step in range(settings.rows):
            if state[step] == GOOD:
                held = step, float(value[step])
            elif state[step] == BAD or (held is not None and step - held[0] > hold):
                held = None
            column.append(None if held is None else held[1])
        columns.append(column[-settings.length - settings.reach :])
    return columns


def filled(column: list[float | None]) -> list[float]:
    first = next(value for value in column if value is not None)
    told = []
    for value in column:
        first = first if value is None else value
        told.append(first)
    return told


@given(st.data())
def test_a_window_is_what_the_manifest_says(data: st.DataObject) -> None:
    channels, rows = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 10))
    length = data.draw(st.integers(1, rows))
    settings = replace(
        SETTINGS,
        inputs=tuple("abc"[:channels]),
        rows=rows,
        length=length,
        reach=data.draw(st.integers(0, min(1, rows - length))),
        hold_steps=tuple(data.draw(st.integers(0, 4)) for _ in range(channels)),
        max_bad_share=data.draw(st.sampled_from([0.0, 0.1, 0.25, 0.5])),
    )
    states = np.array(
        data.draw(
            st.lists(
                st.sampled_from([NOTHING, GOOD, GOOD, GOOD, BAD]), min_size=channels * rows, max_size=channels * rows
            )
        ),
        np.uint8,
    ).reshape(channels, rows)
    values = np.arange(float(channels * rows)).reshape(channels, rows)
    columns = plain_window(values, states, settings)
    missing = sum(value is None for column in columns for value in column)
    is_refused = missing > settings.max_bad_share * channels * (settings.reach + settings.length) + 1e-6
    if is_refused or any(all(value is None for value in column) for column in columns):
        with pytest.raises(NoWindowError):
            window_of(values, states, settings)
    else:
        told = window_of(values, states, settings)
        assert told.shape == (settings.reach + settings.length, channels)
        assert told.T.tolist() == [filled(column) for column in columns]


def test_a_window_without_enough_says_how_much_is_missing_and_of_what() -> None:
    values = np.zeros((2, 6))
    states = np.full((2, 6), GOOD, np.uint8)
    states[1, 2:5] = NOTHING
    with pytest.raises(NoWindowError, match=r"38% of the window is missing or bad, allowed is 25%; most of it: b"):
        window_of(values, states, SETTINGS)
    states[1] = BAD
    with pytest.raises(NoWindowError, match="b has no good reading in the window"):
        window_of(values, states, SETTINGS)


def computed(transform: str, *of: int, window: Any, end_ms: int = 0, step_ms: int = 1000) -> list[float]:
    feature = FeatureSettings("x", transform, of, 0.0, 1.0)
    reach = int("change" in transform)
    settings = replace(SETTINGS, step_ms=step_ms, features=(feature,), reach=reach, length=len(window) - reach)
    told: list[float] = features_of(np.array(window, np.float64), end_ms, settings)[:, 0].tolist()
    return told


@pytest.mark.parametrize(
    ("transform", "of", "told"),
    [
        ("value", (1,), [4, 4, 2]),
        ("log", (0,), [0, math.log(10), math.log(5)]),
        ("change", (0,), [9, -5]),
        ("log_change", (0,), [math.log(10), -math.log(2)]),
        ("log_ratio", (0, 1), [-math.log(4), math.log(2.5), math.log(2.5)]),
    ],
)
def test_a_feature_is_computed_step_by_step(transform: str, of: tuple[int, ...], told: list[float]) -> None:
    assert computed(transform, *of, window=[[1, 4], [10, 4], [5, 2]]) == pytest.approx(told)


@pytest.mark.parametrize(
    ("turn", "begin_ms", "angle"),
    [
        ("day", MONDAY_MS, 0),
        ("day", MONDAY_MS + 6 * HOUR_MS, math.pi / 2),
        ("week", MONDAY_MS, 0),
        ("week", MONDAY_MS + 84 * HOUR_MS, math.pi),
        ("year", 0, 0),
        ("year", 31_556_952_000 * 55 + 7_889_238_000, math.pi / 2),
    ],
)
def test_the_time_is_that_of_a_steps_begin(turn: str, begin_ms: int, angle: float) -> None:
    # The last of two steps begins where it ends less its length.
    window, end_ms = [[0, 0], [0, 0]], begin_ms + HOUR_MS
    sin, cos = (
        computed(f"{turn}_{wave}", window=window, end_ms=end_ms, step_ms=HOUR_MS)[-1] for wave in ("sin", "cos")
    )
    assert (sin, cos) == pytest.approx((math.sin(angle), math.cos(angle)), abs=1e-9)


@pytest.mark.parametrize(("transform", "of"), [("log", (0,)), ("log_change", (0,)), ("log_ratio", (0, 1))])
@pytest.mark.parametrize("value", [0.0, -2.0])
def test_what_has_no_logarithm_has_no_result(transform: str, of: tuple[int, ...], value: float) -> None:
    with pytest.raises(NoWindowError, match=f"x, the {transform} of a.*, is not finite in the window"):
        computed(transform, *of, window=[[1, 1], [value, value], [1, 1]])


def test_a_great_value_is_scaled_without_loss() -> None:
    # 101,325 Pa known to a hundredth: the scale divides it before it is float32.
    feature, other = SETTINGS.features
    settings = replace(SETTINGS, features=(replace(feature, mean=101_325.0, scale=0.01), other))
    features = np.array([[101_325.0078125, 1.0]] * 4)
    assert scaled(features, settings)[0, 0].tolist() == [0.78125, 1.0]
    assert scaled(features, settings).shape == (1, 4, 2)


def test_a_forecast_comes_back_in_its_units_and_from_the_last_value() -> None:
    told = result_of(np.array([[2.0, 3.0, 4.0, 5.0]], np.float32), LAST, NONE, SETTINGS)
    assert told.tolist() == [2 * 3 + 1, 3 * 3 + 1, 4 * 4 + 2 + 7, 5 * 4 + 2 + 7]


def test_a_ratio_is_told_by_what_there_was_last() -> None:
    settings = replace(SETTINGS, out_shape=(1, 1, 2), targets=(TargetSettings(0.0, 0.5, "log_ratio", 1),))
    output = np.array([[-1.0, 1.0]], np.float32)
    assert result_of(output, LAST, NONE, settings) == pytest.approx([7 * math.exp(-0.5), 7 * math.exp(0.5)])
    for last in (0.0, -1.0):
        with pytest.raises(NoWindowError, match=f"b is {last:g}: nothing has a ratio to it"):
            result_of(output, np.array([5.0, last]), NONE, settings)


def test_quantiles_that_cross_are_put_in_order_within_a_target_and_horizon() -> None:
    targets = (TargetSettings(0.0, 1.0, None, 0), TargetSettings(0.0, 1.0, "difference", 0))
    settings = replace(SETTINGS, out_shape=(2, 2, 2), targets=targets)
    output = np.array([4, 3, 2, 9, 1, 0, 8, 7], np.float32)
    assert result_of(output, LAST, NONE, settings).tolist() == [3, 4, 2, 9, 5, 6, 12, 13]


def test_a_reconstruction_is_scored_with_each_features_share() -> None:
    settings = replace(SETTINGS, output=RECONSTRUCTION)
    model_input = scaled(np.zeros((4, 2)), settings)
    output = model_input.copy()
    output[0, :, 0] += 3
    output[0, 0, 1] += 2
    # Squares: four times 9 and once 4, over eight cells.
    assert result_of(output, LAST, model_input, settings).tolist() == pytest.approx([5, 0.9, 0.1])
    assert result_of(model_input, LAST, model_input, settings).tolist() == [0, 0, 0]


def test_a_direct_score_is_as_it_is() -> None:
    settings = replace(SETTINGS, output=DIRECT)
    assert result_of(np.array([[4.5]], np.float32), LAST, NONE, settings).tolist() == [4.5]


def test_settings_survive_json() -> None:
    assert ModelSettings.from_document(SETTINGS.to_document()) == SETTINGS
