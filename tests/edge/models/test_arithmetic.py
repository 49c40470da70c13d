"""Windows, scaling and scores, held against the plainest way to say the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.arithmetic import NoWindowError, result_of, scaled, window_of
from edge.inference.settings import BAD, DIRECT, FORECAST, GOOD, NOTHING, RECONSTRUCTION, ModelSettings

SETTINGS = ModelSettings(
    key="k",
    directory="d",
    forms=(),
    length=4,
    rows=6,
    inputs=("a", "b"),
    mean=(10.0, 0.0),
    scale=(2.0, 1.0),
    hold_steps=(2, 0),
    max_bad_share=0.25,
    output=FORECAST,
    out_shape=(1, 1, 2),
    out_mean=(1.0, 2.0),
    out_scale=(3.0, 4.0),
    out_since=(-1, 1),
)


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
        columns.append(column[-settings.length :])
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
    settings = replace(
        SETTINGS,
        inputs=tuple("abc"[:channels]),
        rows=rows,
        length=data.draw(st.integers(1, rows)),
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
    values = np.arange(channels * rows, dtype=np.float32).reshape(channels, rows)
    columns = plain_window(values, states, settings)
    missing = sum(value is None for column in columns for value in column)
    is_refused = missing > settings.max_bad_share * channels * settings.length + 1e-6
    if is_refused or any(all(value is None for value in column) for column in columns):
        with pytest.raises(NoWindowError):
            window_of(values, states, settings)
    else:
        told = window_of(values, states, settings)
        assert told.shape == (settings.length, channels)
        assert told.T.tolist() == [filled(column) for column in columns]


def test_a_window_without_enough_says_how_much_is_missing_and_of_what() -> None:
    values = np.zeros((2, 6), np.float32)
    states = np.full((2, 6), GOOD, np.uint8)
    states[1, 2:5] = NOTHING
    with pytest.raises(NoWindowError, match=r"38% of the window is missing or bad, allowed is 25%; most of it: b"):
        window_of(values, states, SETTINGS)
    states[1] = BAD
    with pytest.raises(NoWindowError, match="b has no good reading in the window"):
        window_of(values, states, SETTINGS)


def test_a_great_value_is_scaled_without_loss() -> None:
    # 101,325 Pa known to a hundredth: the scale divides it before it is float32.
    settings = replace(SETTINGS, mean=(101_325.0, 0.0), scale=(0.01, 1.0))
    window = np.array([[101_325.0078125, 1.0]] * 4, np.float32)
    assert scaled(window, settings)[0, 0].tolist() == [0.78125, 1.0]
    assert scaled(window, settings).shape == (1, 4, 2)


def test_a_forecast_comes_back_in_its_units_and_from_the_last_value() -> None:
    window = np.array([[0, 0], [0, 0], [0, 0], [5, 7]], np.float32)
    told = result_of(np.array([[2.0, 3.0]], np.float32), window, scaled(window, SETTINGS), SETTINGS)
    assert told.tolist() == [2 * 3 + 1, 3 * 4 + 2 + 7]


def test_a_reconstruction_is_scored_with_each_inputs_share() -> None:
    settings = replace(SETTINGS, output=RECONSTRUCTION)
    window = np.zeros((4, 2), np.float32)
    model_input = scaled(window, settings)
    output = model_input.copy()
    output[0, :, 0] += 3
    output[0, 0, 1] += 2
    # Squares: four times 9 and once 4, over eight cells.
    assert result_of(output, window, model_input, settings).tolist() == pytest.approx([5, 0.9, 0.1])
    assert result_of(model_input, window, model_input, settings).tolist() == [0, 0, 0]


def test_a_direct_score_is_as_it_is() -> None:
    settings = replace(SETTINGS, output=DIRECT)
    window = np.zeros((4, 2), np.float32)
    assert result_of(np.array([[4.5]], np.float32), window, scaled(window, settings), settings).tolist() == [4.5]


def test_settings_survive_json() -> None:
    assert ModelSettings.from_document(SETTINGS.to_document()) == SETTINGS
