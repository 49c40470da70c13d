from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from contract.windows import Steps
from models.data.dataset import Dataset, Table
from models.errors import DataError
from models.samples import embargo_ms, samples_of, window_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.recipe import ForecastRecipe


def waves_of(dataset: Dataset, table: int) -> NDArray[np.float64]:
    return dataset.tables[table].steps.values[:, 1]


def changed(dataset: Dataset, table: int, rows: slice, value: float, column: int = 1) -> Dataset:
    steps = dataset.tables[table].steps
    values = steps.values.copy()
    values[rows, column] = value
    tables = list(dataset.tables)
    tables[table] = Table(tables[table].key, Steps(steps.at_ms, values, steps.is_spoilt))
    return replace(dataset, tables=tuple(tables))


def test_a_sample_is_a_window_and_what_came(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    samples = samples_of(waves, wave_recipe, stride=1)
    wave, place = waves_of(waves, 1), np.flatnonzero((samples.table == 1) & (samples.end_ms == 100_000))[0]
    assert samples.x[place, :, 0] == pytest.approx(wave[88:100])
    assert samples.x[place, :, 1] == pytest.approx(np.diff(wave[87:100]), rel=1e-5)
    assert samples.last[place] == wave[99]
    assert samples.y[place, 0] == pytest.approx(wave[[100, 103]] - wave[99], rel=1e-5)
    assert samples.y[place, 1, 1] == pytest.approx(np.sqrt(np.square(np.diff(wave[99:104])).mean()))
    types = {name: str(getattr(samples, name).dtype) for name in ("x", "y", "last", "end_ms", "table")}
    assert types == {"x": "float32", "y": "float32", "last": "float64", "end_ms": "int64", "table": "int32"}


def test_only_whole_windows_whose_outcome_is_known(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    samples = samples_of(waves, wave_recipe, stride=1)
    # 12 steps, of which one value may be missing and with it the step before; 4 steps after.
    assert len(samples) == 2 * (1200 - 11 - 4)
    assert (np.diff(samples.end_ms) >= 0).all()
    assert samples.end_ms.min() == 12_000
    assert samples.end_ms.max() == 1_196_000

    holed = samples_of(changed(waves, 0, slice(500, 520), np.nan), wave_recipe, stride=1)
    ends = holed.end_ms[holed.table == 0]
    assert not ((ends > 496_000) & (ends < 520_000)).any()
    assert len(holed.end_ms[holed.table == 1]) == 1185


def test_the_stride_leaves_windows_out(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    every, fourth = (samples_of(waves, wave_recipe, stride=stride) for stride in (1, 4))
    chosen = every.where((every.end_ms // 1000) % 4 == 1)
    assert (fourth.end_ms == chosen.end_ms).all()
    assert (fourth.x == chosen.x).all()


def test_no_window_of_one_part_shares_a_step_with_one_of_the_other(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    samples = samples_of(waves, wave_recipe, stride=1)
    gap_ms = embargo_ms(waves, wave_recipe.view, wave_recipe.horizons[-1])
    earlier, later = samples.split(0.25, gap_ms)
    assert len(later) == pytest.approx(0.25 * len(samples), abs=2)
    # The latest outcome's end, and the begin of the earliest step that is looked at.
    assert earlier.end_ms.max() + 4000 <= later.end_ms.min() - 13_000
    assert len(earlier) + len(later) == len(samples) - 2 * 17


def test_the_gap_of_trading_days_is_as_long_as_their_longest_run(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    day_ms = 86_400_000
    days = np.array([day for day in range(60) if day % 7 < 5 and day not in (23, 24)], np.int64)
    steps = Steps(days * day_ms, np.ones((len(days), 2)), np.zeros((len(days), 2), bool))
    daily = replace(waves, step_s=86_400.0, tables=(Table("t", steps),))
    window = wave_recipe.view.window.model_copy(update={"length": 4, "steps": "present", "step_s": 86_400.0})
    view = wave_recipe.view.model_copy(update={"window": window})
    # 4, the one before and 5 to come: ten steps over three weekends and the holidays.
    assert embargo_ms(daily, view, 5) == 18 * day_ms


def test_the_gap_counts_the_models_steps_and_not_the_datas(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    minutes = np.arange(600, dtype=np.int64)
    steps = Steps(minutes * 60_000, np.ones((600, 2)), np.zeros((600, 2), bool))
    data = replace(waves, step_s=60.0, tables=(Table("t", steps),))
    window = wave_recipe.view.window.model_copy(update={"length": 4, "steps": "present", "step_s": 300.0})
    view = wave_recipe.view.model_copy(update={"window": window})
    assert embargo_ms(data, view, 5) == 10 * 300_000


def test_between_counts_ends(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    some = samples_of(waves, wave_recipe, stride=1).between(20_000, 30_000)
    assert sorted(set(some.end_ms)) == list(range(20_000, 30_000, 1000))
    assert len(some) == len(some.x) == len(some.y) == len(some.last) == len(some.table) == 20


def test_windows_for_anomalies_need_no_future(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    windows = window_samples(waves, wave_recipe.view, stride=1)
    assert windows.end_ms.max() == 1_200_000
    assert windows.y.shape == (2 * 1189, 0, 0)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda waves: replace(waves, step_s=2.0), "waves: steps of 2 s do not make such of 1 s"),
        (lambda waves: replace(waves, units={"noise": None, "ripple": "m"}), "has no wave; there are noise, ripple"),
        (
            lambda waves: changed(changed(waves, 0, slice(None), np.nan), 1, slice(None), np.nan),
            "waves: wave without a single value",
        ),
        (
            lambda waves: replace(waves, tables=tuple(table.last(10) for table in waves.tables)),
            "waves: no whole window",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(
    waves: Dataset, wave_recipe: ForecastRecipe, broken: object, message: str
) -> None:
    assert callable(broken)
    with pytest.raises(DataError, match=message):
        samples_of(broken(waves), wave_recipe, stride=1)


def test_a_column_that_is_not_asked_for_may_be_empty(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    without = changed(changed(waves, 0, slice(None), np.nan, 0), 1, slice(None), np.nan, 0)
    assert len(samples_of(without, wave_recipe, stride=1)) == 2 * 1185
