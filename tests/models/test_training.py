from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import ModelsError, TrainingError
from models.forecaster import Forecaster
from models.recipe import Fit
from models.samples import Samples, embargo_ms, samples_of
from models.scaler import Scaler
from models.training.checkpoint import Checkpoint
from models.training.forecast import train_forecaster
from models.training.loop import Pairs, fit_net
from models.training.tensorflow import keras, tf

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.data.dataset import Dataset
    from models.recipe import ForecastRecipe


@pytest.fixture(scope="module")
def parts(waves: Dataset, wave_recipe: ForecastRecipe) -> tuple[Samples, Samples]:
    samples = samples_of(waves, wave_recipe, stride=2)
    return samples.split(0.25, embargo_ms(waves, wave_recipe.view, 4))


@pytest.fixture(scope="module")
def undisturbed(wave_recipe: ForecastRecipe, parts: tuple[Samples, Samples]) -> Forecaster:
    return train_forecaster(wave_recipe, *parts, seed=7)


def same_weights(one: Forecaster, other: Forecaster) -> bool:
    return all((a == b).all() for a, b in zip(one.core.get_weights(), other.core.get_weights(), strict=True))


def test_what_comes_is_learnt(undisturbed: Forecaster, parts: tuple[Samples, Samples]) -> None:
    told, came = undisturbed.predict(parts[1].x), parts[1].y
    assert told.shape == (*came.shape, 3)
    assert (np.diff(told, axis=-1) >= 0).all()
    assert np.abs(told[..., 1] - came)[:, 0].mean() < 0.6 * np.abs(came)[:, 0].mean()
    assert ((came > told[..., 0]) & (came < told[..., 2])).mean() == pytest.approx(0.8, abs=0.1)


def test_an_untrained_net_tells_the_quantiles_of_what_was(
    wave_recipe: ForecastRecipe, parts: tuple[Samples, Samples]
) -> None:
    untrained = train_forecaster(replace(wave_recipe, fit=replace(wave_recipe.fit, epochs=0)), *parts, seed=7)
    often = np.moveaxis(np.quantile(parts[0].y, wave_recipe.quantiles, axis=0), 0, -1)
    assert untrained.predict(parts[1].x[:3]) == pytest.approx(np.stack([often] * 3), abs=1e-5)
    assert untrained.history.shape == (1, 2)


_WAITS_TO_BE_KILLED = """
import pickle, signal, sys
from pathlib import Path
from models.training.forecast import train_forecaster

def say(number, *_):
    print(number, flush=True)
    if number == 2:
        signal.pause()

recipe, parts = pickle.load(sys.stdin.buffer)
train_forecaster(recipe, *parts, seed=7, place=Path(sys.argv[1]), on_epoch=say)
"""


def test_one_that_was_killed_comes_to_the_same_weights(
    undisturbed: Forecaster, wave_recipe: ForecastRecipe, parts: tuple[Samples, Samples], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _WAITS_TO_BE_KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(pickle.dumps((wave_recipe, parts)))
        process.stdin.close()
        assert [process.stdout.readline() for _ in range(2)] == [b"1\n", b"2\n"]
        process.kill()
    assert process.returncode == -signal.SIGKILL
    epochs: list[int] = []
    resumed = train_forecaster(
        wave_recipe, *parts, seed=7, place=tmp_path, on_epoch=lambda number, *_: epochs.append(number)
    )
    assert epochs == [3, 4]
    assert (resumed.history == undisturbed.history).all()
    assert same_weights(resumed, undisturbed)


def test_the_same_seed_gives_the_same_weights_whatever_checkpoint_lies_there(
    undisturbed: Forecaster, wave_recipe: ForecastRecipe, parts: tuple[Samples, Samples], tmp_path: Path
) -> None:
    other = train_forecaster(wave_recipe, *parts, seed=8, place=tmp_path)
    assert not same_weights(other, undisturbed)
    epochs: list[int] = []
    again = train_forecaster(
        wave_recipe, *parts, seed=7, place=tmp_path, on_epoch=lambda number, *_: epochs.append(number)
    )
    assert epochs == [1, 2, 3, 4]
    assert same_weights(again, undisturbed)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"nothing of the kind"])
def test_what_is_no_checkpoint_is_none(tmp_path: Path, content: bytes) -> None:
    Checkpoint("a", [np.ones(2)], [], [np.ones(2)], np.ones((1, 2))).save(tmp_path)
    (file,) = tmp_path.iterdir()
    assert Checkpoint.load(tmp_path, "a")
    assert Checkpoint.load(tmp_path, "b") is None
    file.write_bytes(content)
    assert Checkpoint.load(tmp_path, "a") is None


def line(weight: float, learning_rate: float, slope: float = 2.0) -> tuple[keras.Model, NDArray[np.float64]]:
    """A net of one weight, which begins at `weight` and learns the slope; in validation it should be 2."""
    x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    net = keras.Sequential([keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    net.set_weights([np.array([[weight]], np.float32)])
    fit = Fit(epochs=50, patience=3, batch=16, learning_rate=learning_rate)
    train, valid = Pairs(x, np.float32(slope) * x), Pairs(x, 2 * x)
    history = fit_net(net, lambda truth, told: tf.reduce_mean(tf.square(truth - told)), train, valid, fit, seed=1)
    return net, history


def test_it_stops_when_it_no_longer_gets_better_and_is_left_at_its_best() -> None:
    net, history = line(1.0, 0.3)
    best = int(history[:, 1].argmin())
    assert 0 < best < 47
    assert len(history) == 1 + best + 3
    assert np.square(net.get_weights()[0].item() - 2) / 3 == pytest.approx(history[best, 1], rel=0.1)


def test_what_only_gets_worse_is_left_as_it_was() -> None:
    net, history = line(2.0, 0.3, slope=3.0)
    assert len(history) == 4
    assert history[3, 0] < history[1, 0]
    assert net.get_weights()[0].item() == 2


def test_a_loss_that_is_no_number_is_an_error() -> None:
    with pytest.raises(TrainingError, match="the loss of epoch 1 is nan, nan in validation"):
        line(1.0, float("nan"))


def test_the_scaling_is_in_the_model(
    undisturbed: Forecaster, wave_recipe: ForecastRecipe, parts: tuple[Samples, Samples]
) -> None:
    scaler, x = undisturbed.scaler, parts[1].x[:50]
    flat = undisturbed.core.predict_on_batch(scaler.features(x)).reshape(50, 2, 2, 3)
    told = flat * scaler.target_scale[:, None, None] + scaler.target_mean[:, None, None]
    assert undisturbed.model.predict_on_batch(x) == pytest.approx(told, abs=1e-6)
    assert parts[0].x.mean(axis=(0, 1)) == pytest.approx(scaler.feature_mean, rel=1e-3, abs=1e-4)
    assert [each.scale for each in scaler.view_of(wave_recipe.view).features] == pytest.approx(scaler.feature_scale)
    assert [each.mean for each in scaler.targets_of(wave_recipe.targets)] == pytest.approx(scaler.target_mean)


def test_what_is_saved_needs_none_of_our_code(
    undisturbed: Forecaster, wave_recipe: ForecastRecipe, parts: tuple[Samples, Samples], tmp_path: Path
) -> None:
    undisturbed.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    layers = [*model.layers, *model.get_layer("core").layers]
    assert all(type(layer).__module__.startswith("tf_keras.") for layer in layers)

    loaded = Forecaster.load(tmp_path / "model.keras", wave_recipe)
    assert (loaded.predict(parts[1].x) == undisturbed.predict(parts[1].x)).all()
    assert (loaded.scaler.feature_mean == undisturbed.scaler.feature_mean).all()
    assert loaded.scaler.target_scale == pytest.approx(undisturbed.scaler.target_scale, rel=1e-12)


def test_what_is_no_model_is_refused(undisturbed: Forecaster, wave_recipe: ForecastRecipe, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with pytest.raises(ModelsError, match="is no forecast"):
        Forecaster.load(path, wave_recipe)
    path.write_bytes(b"no zip")
    with pytest.raises(ModelsError, match="is no forecast"):
        Forecaster.load(path, wave_recipe)
    undisturbed.core.save(path)
    with pytest.raises(ModelsError, match="is no forecast"):
        Forecaster.load(path, wave_recipe)
    undisturbed.save(path)
    view = wave_recipe.view.model_copy(update={"features": wave_recipe.view.features[:1]})
    with pytest.raises(ModelsError, match=r"windows of \(12, 2\): wanted are \(12, 1\)"):
        Forecaster.load(path, replace(wave_recipe, view=view))
    with pytest.raises(ModelsError, match=r"tells \(.*\): wanted are"):
        Forecaster.load(path, replace(wave_recipe, horizons=(*wave_recipe.horizons, 99)))


def test_too_little_is_refused(wave_recipe: ForecastRecipe, parts: tuple[Samples, Samples]) -> None:
    train, valid = parts
    few = train.where(np.arange(len(train)) < 99)
    with pytest.raises(TrainingError, match="wave: 99 windows to train on: wanted are 100 at least"):
        train_forecaster(wave_recipe, few, valid, seed=1)
    with pytest.raises(TrainingError, match="wave: 0 windows to validate with"):
        train_forecaster(wave_recipe, train, valid.between(0, 0), seed=1)


def test_what_never_changes_is_refused(wave_recipe: ForecastRecipe, parts: tuple[Samples, Samples]) -> None:
    x = parts[0].x.copy()
    x[:, :, 1] = 4.0
    with pytest.raises(TrainingError, match="features that are constant: change"):
        train_forecaster(wave_recipe, replace(parts[0], x=x), parts[1], seed=1)
    y = parts[0].y * np.array([[1.0], [0.0]], np.float32)
    with pytest.raises(TrainingError, match="targets that are constant: restlessness"):
        train_forecaster(wave_recipe, replace(parts[0], y=y), parts[1], seed=1)
    x[5, 3, 0] = np.inf
    with pytest.raises(TrainingError, match="features that are not finite: wave"):
        Scaler.fitted(wave_recipe.view, (), x, parts[0].y)
