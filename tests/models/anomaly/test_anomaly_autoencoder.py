"""The net: what it is made of, that it says where, and that it is the same again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.anomaly.nets import anomaly_core
from models.anomaly.parts import Past
from models.anomaly.training import train_autoencoder
from models.anomaly.truth import truth_of
from models.autoencoder import Autoencoder
from models.errors import ModelsError, TrainingError
from models.samples import window_samples

if TYPE_CHECKING:
    from pathlib import Path

    from models.data.dataset import Dataset
    from models.recipe import AnomalyRecipe


@pytest.fixture(scope="module")
def past(normal: Dataset, recipe: AnomalyRecipe) -> Past:
    learnt, calibration = window_samples(normal, recipe.view, stride=2).split(0.3, 8000)
    train, valid = learnt.split(0.2, 8000)
    return Past(normal, train, valid, calibration)


@pytest.fixture(scope="module")
def trained(past: Past, recipe: AnomalyRecipe) -> Autoencoder:
    return train_autoencoder(recipe, past.train, past.valid, seed=1)


def test_a_score_is_the_mean_of_what_the_model_itself_leaves(trained: Autoencoder, past: Past) -> None:
    x = past.calibration.x[:300]
    again = trained.model.predict_on_batch(x)  # features as they are, in and out
    left = (again - x) / trained.scaler.feature_scale
    assert trained.errors(x) == pytest.approx(np.square(left).mean(axis=1), rel=1e-3, abs=1e-5)
    assert trained.scores(x) == pytest.approx(np.square(left).mean(axis=(1, 2)), rel=1e-3, abs=1e-5)
    assert trained.scores(x).dtype == trained.errors(x).dtype == np.float32


def test_what_is_wrong_scores_higher_and_is_named(
    trained: Autoencoder, past: Past, faulty: Dataset, recipe: AnomalyRecipe
) -> None:
    samples = window_samples(faulty, recipe.view, stride=1)
    truth = truth_of(faulty, recipe.view, samples)
    wrong = samples.where(truth.is_incident).x
    assert np.median(trained.scores(wrong)) > 5 * np.median(trained.scores(past.calibration.x))
    shares = trained.errors(wrong).sum(axis=0)
    names = [each.name for each in recipe.view.features]
    # It is the flow that is stuck; that the level has nothing to do with it is learnt.
    assert names[int(shares.argmax())].startswith("pump/")
    assert shares[names.index("tank/level")] < 0.2 * shares.sum()


def test_the_scale_is_what_others_do_not_foretell(trained: Autoencoder, past: Past) -> None:
    ratio = trained.scaler.feature_scale / past.train.x.std(axis=(0, 1))
    assert ratio == pytest.approx([0.1, 0.1, 1.0], rel=0.05)


def test_the_same_again(trained: Autoencoder, past: Past, recipe: AnomalyRecipe) -> None:
    again = train_autoencoder(recipe, past.train, past.valid, seed=1)
    for mine, same in zip(trained.core.get_weights(), again.core.get_weights(), strict=True):
        assert (mine == same).all()


def test_it_is_saved_whole(trained: Autoencoder, past: Past, recipe: AnomalyRecipe, tmp_path: Path) -> None:
    trained.save(tmp_path / "model.keras")
    loaded = Autoencoder.load(tmp_path / "model.keras", recipe)
    assert loaded.scaler.feature_scale == pytest.approx(trained.scaler.feature_scale)
    assert loaded.scores(past.valid.x) == pytest.approx(trained.scores(past.valid.x), rel=1e-4)

    longer = replace(
        recipe, view=recipe.view.model_copy(update={"window": recipe.view.window.model_copy(update={"length": 9})})
    )
    with pytest.raises(ModelsError, match=r"windows of \(8, 3\): wanted are \(9, 3\)"):
        Autoencoder.load(tmp_path / "model.keras", longer)
    (tmp_path / "model.keras").write_bytes(b"no model")
    with pytest.raises(ModelsError, match="is no autoencoder"):
        Autoencoder.load(tmp_path / "model.keras", recipe)


def test_calibration_reaches_beyond_what_is_normal(trained: Autoencoder, past: Past) -> None:
    scaled = trained.scaler.features(past.train.x)
    windows = trained.calibration_windows(past.train.x)
    assert (windows[1::2] == scaled[1::2]).all()
    assert windows[len(windows) // 2 * 2 - 2] == pytest.approx(2 * scaled[len(windows) // 2 * 2 - 2], rel=0.01)
    assert np.abs(windows).max() > 1.2 * np.abs(scaled).max()


def test_both_nets_are_built_in_layers_alone(recipe: AnomalyRecipe, conv_recipe: AnomalyRecipe) -> None:
    for each in (recipe, conv_recipe):
        core = anomaly_core(each, batch=1)
        assert core.input_shape == core.output_shape == (1, 8, 3)
        assert {type(layer).__module__.split(".")[0] for layer in core.layers} == {"tf_keras"}
    assert [type(layer).__name__ for layer in anomaly_core(recipe).layers].count("LSTM") == 2


def test_windows_and_codes_that_do_not_fit_are_refused(recipe: AnomalyRecipe, conv_recipe: AnomalyRecipe) -> None:
    for wrong in (replace(recipe, patch=3), replace(recipe, code=7), replace(conv_recipe, code=7)):
        with pytest.raises(TrainingError, match="there must be as many in each"):
            anomaly_core(wrong)


def test_too_few_windows_are_refused(past: Past, recipe: AnomalyRecipe) -> None:
    with pytest.raises(TrainingError, match="pumps: 49 windows to train on: wanted are 50"):
        train_autoencoder(recipe, past.train.where(np.arange(len(past.train)) < 49), past.valid, seed=1)
