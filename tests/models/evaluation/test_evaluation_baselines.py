from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contract.manifest import Feature, ModelInput, Target, View, Window
from contract.windows import Steps
from models.data.dataset import Dataset, Table
from models.evaluation.baselines import baselines, naive_error
from models.evaluation.fitting import Past, past_of
from models.evaluation.measures import is_within, mean, pinball
from models.evaluation.tracks import Track, tracks_of
from models.recipe import ForecastRecipe

COUNT, FITTED = 1500, 1000
INPUTS = ("price", "high", "low", "level")


def series(seed: int) -> np.ndarray:
    """A price whose volatility comes and goes, its range, and a level that repeats itself each 6 steps."""
    random = np.random.default_rng(seed)
    calm = np.zeros(COUNT)
    for step in range(1, COUNT):
        calm[step] = 0.97 * calm[step - 1] + 0.25 * random.normal()
    volatility = 0.01 * np.exp(calm)
    price = 100 * np.exp(np.cumsum(volatility * random.normal(size=COUNT)))
    reach = volatility * random.uniform(0.5, 1.5, COUNT)
    level = 5 + np.tile([0.0, 1, 3, 2, 1, 0], COUNT // 6) + 0.1 * random.normal(size=COUNT)
    return np.column_stack([price, price * np.exp(reach), price * np.exp(-reach), level])


def dataset(*tables: np.ndarray) -> Dataset:
    at_ms = np.arange(COUNT, dtype=np.int64) * 1000
    made = (Table(str(key), Steps(at_ms, each, np.zeros(each.shape, bool))) for key, each in enumerate(tables))
    return Dataset("made", "Made", "a test", "none", 1.0, dict.fromkeys(INPUTS), tuple(made))


RECIPE = ForecastRecipe(
    name="made",
    title="Made",
    dataset="made",
    view=View(
        inputs=tuple(ModelInput(name=name) for name in INPUTS),
        window=Window(length=10, step_s=1),
        features=(Feature(name="level", of=("level",)),),
    ),
    targets=(
        Target(name="price", of=("price",), relative="log_ratio"),
        Target(name="return", transform="log_change", of=("price",)),
        Target(name="range", transform="log_ratio", of=("high", "low")),
        Target(name="volatility", transform="log_change", of=("price",), over="rms"),
        Target(name="level", of=("level",)),
    ),
    horizons=(1, 4),
    season=6,
)
PRICE, RETURN, RANGE, VOLATILITY, LEVEL = range(5)


def past(data: Dataset) -> Past:
    tracks = tracks_of(data, RECIPE)
    return past_of(RECIPE, tracks, [np.arange(COUNT) < FITTED for _ in tracks])


def loss(of: Past, told: np.ndarray, rows: np.ndarray, target: int) -> float:
    return mean(pinball(of.tracks[0].came[rows][:, target, of.columns], told[:, target], RECIPE.quantiles))


@pytest.fixture(scope="module")
def made() -> Past:
    return past(dataset(series(1), series(2)))


ROWS = np.arange(FITTED + 20, COUNT - 5)


@pytest.fixture(scope="module")
def told(made: Past) -> dict[str, np.ndarray]:
    return {name: each[0] for name, each in baselines(made, [ROWS, ROWS]).items()}


def test_a_track_knows_each_outcome_when_it_is_over(made: Past) -> None:
    track, values = made.tracks[0], series(1)
    assert track.horizons == (1, 4)
    assert track.known[50, LEVEL, 1] == pytest.approx(values[50, 3])
    moved = np.diff(np.log(values[46:51, 0]))
    assert track.known[50, VOLATILITY, 1] == pytest.approx(np.sqrt(np.square(moved).mean()))
    assert track.came[46, VOLATILITY, 1] == pytest.approx(track.known[50, VOLATILITY, 1])
    assert track.came[50, PRICE, 1] == pytest.approx(np.log(values[54, 0] / values[50, 0]))
    np.testing.assert_allclose(track.last[50], values[50])


def test_each_target_has_the_baselines_that_are_of_its_kind(told: dict[str, np.ndarray]) -> None:
    has = {name: [bool(np.isfinite(each[:, target]).all()) for target in range(5)] for name, each in told.items()}
    moving, spread = [True, True, False, False, True], [False, False, True, True, False]
    assert has == {
        "naive": [True] * 5,
        "seasonal_naive": [True] * 5,
        "scaled_naive": moving,
        "ewma": spread,
        "har": spread,
    }


def test_naive_means_no_change_and_no_return(told: dict[str, np.ndarray]) -> None:
    assert abs(told["naive"][:, PRICE, :, 1]).max() < 0.01  # its past errors' median, which is near 0
    assert np.ptp(told["naive"][:, PRICE, 0, 1]) < 1e-12
    assert np.ptp(told["naive"][:, RETURN, 0, 1]) < 1e-12


def test_quantiles_rise_and_cover_what_they_say(made: Past, told: dict[str, np.ndarray]) -> None:
    came = made.tracks[0].came[ROWS][:, :, made.columns]
    for name, each in told.items():
        finite = np.isfinite(each[0, :, 0, 0])
        assert (np.diff(each[:, finite], axis=-1) >= 0).all(), name
        assert mean(is_within(came[:, finite], each[:, finite])) == pytest.approx(0.8, abs=0.06), name


def test_what_fits_the_data_is_better(made: Past, told: dict[str, np.ndarray]) -> None:
    losses = {name: [loss(made, each, ROWS, target) for target in range(5)] for name, each in told.items()}
    assert losses["seasonal_naive"][LEVEL] < 0.3 * losses["naive"][LEVEL]
    assert losses["scaled_naive"][PRICE] < 0.97 * losses["naive"][PRICE]
    for name in ("ewma", "har"):
        assert losses[name][VOLATILITY] < 0.9 * losses["naive"][VOLATILITY]
        assert losses[name][RANGE] < losses["naive"][RANGE]


def test_nothing_is_known_before_it_came() -> None:
    later = FITTED + 200
    shown, hidden = series(1), series(1)
    hidden[later:] *= np.random.default_rng(9).uniform(0.1, 10, hidden[later:].shape)
    rows = np.arange(100, later)
    ours, theirs = (baselines(past(dataset(each)), [rows]) for each in (shown, hidden))
    for name, each in ours.items():
        np.testing.assert_array_equal(each[0], theirs[name][0], err_msg=name)


def test_what_came_after_the_fitted_part_changes_no_quantile_of_errors() -> None:
    shown, hidden = series(1), series(1)
    hidden[FITTED + max(RECIPE.horizons) :] = hidden[FITTED]  # all is quiet
    np.testing.assert_array_equal(naive_error(past(dataset(shown))), naive_error(past(dataset(hidden))))


def test_a_table_that_is_new_has_the_errors_of_all_others(made: Past) -> None:
    tracks = made.tracks
    fitted = past_of(RECIPE, tracks, [np.arange(COUNT) < FITTED, np.zeros(COUNT, bool)])
    told = baselines(fitted, [ROWS, ROWS])["naive"]
    np.testing.assert_allclose(told[1][:, PRICE], told[0][:, PRICE])
    np.testing.assert_allclose(naive_error(fitted)[1], naive_error(fitted)[0])


def test_a_gap_leaves_the_last_outcome_known() -> None:
    values = series(1)
    values[700:703, 3] = np.nan
    track: Track = tracks_of(dataset(values), RECIPE)[0]
    np.testing.assert_array_equal(track.known[700:703, LEVEL, 0], values[699, 3])
    assert np.isnan(track.came[699, LEVEL, 0])


def test_one_horizon_and_one_quantile_are_enough() -> None:
    recipe = replace(RECIPE, horizons=(3,), quantiles=(0.5,))
    tracks = tracks_of(dataset(series(1)), recipe)
    of = past_of(recipe, tracks, [np.arange(COUNT) < FITTED])
    assert baselines(of, [ROWS])["har"][0].shape == (len(ROWS), 5, 1, 1)
