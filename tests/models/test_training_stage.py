from __future__ import annotations

import io
import json
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

from models.data.kept import keep
from models.errors import DataError
from models.forecaster import Forecaster
from models.options import Options
from models.training.stage import learnt_and_valid, train

if TYPE_CHECKING:
    from pathlib import Path

    from models.data.dataset import Dataset
    from models.recipe import ForecastRecipe


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(console=Console(file=io.StringIO(), width=200), data=tmp_path / "data", work=tmp_path / "work")


@pytest.fixture
def recipe(waves: Dataset, wave_recipe: ForecastRecipe, options: Options) -> ForecastRecipe:
    return replace(wave_recipe, dataset=keep(waves, options), fit=replace(wave_recipe.fit, epochs=2))


def said(options: Options) -> str:
    assert isinstance(options.console.file, io.StringIO)
    return options.console.file.getvalue()


def document_of(place: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((place / "trained.json").read_text())
    return document


def test_what_a_training_leaves(waves: Dataset, recipe: ForecastRecipe, options: Options) -> None:
    train(recipe, options)
    place = options.work / "wave"
    learnt, valid = learnt_and_valid(waves, recipe)

    forecaster = Forecaster.load(place / "model.keras", recipe)
    came = valid.y[:, 0]
    assert np.abs(forecaster.predict(valid.x)[:, 0, :, 1] - came).mean() < 0.6 * np.abs(came).mean()

    document, history = document_of(place), json.loads((place / "history.json").read_text())
    assert document["recipe"]["name"] == "wave"
    assert (document["seed"], document["quick"]) == (1, False)
    assert document["data"]["origin"] == "a test"
    assert document["data"]["to_at"] == "1970-01-01T00:19:59+00:00"
    assert document["windows"] == {"train": len(learnt), "valid": len(valid)}
    assert (document["epochs"], len(history["valid"])) == (2, 3)
    assert document["valid_loss"] == min(history["valid"]) < document["untrained_loss"] == history["valid"][0]
    assert document["versions"].keys() == {"python", "tensorflow", "tf_keras", "numpy"}
    assert not list((place / "checkpoints").iterdir())
    assert f"wave: 2 epochs on {len(learnt)} windows in " in said(options)


def test_data_that_there_is_not(recipe: ForecastRecipe, options: Options) -> None:
    with pytest.raises(DataError, match="nowhere"):
        train(replace(recipe, dataset="nowhere"), options)
    assert not (options.work / "wave").exists()


_TRAINS = """
import pickle, signal, sys
import models.__main__ as command
from models import recipes

recipe, data, work = pickle.load(sys.stdin.buffer)
recipes.RECIPES = {recipe.name: recipe}
signal.signal(signal.SIGTERM, command._terminate)
sys.exit(command.main(["train", recipe.name, f"--data={data}", f"--work={work}"]))
"""


def test_one_that_is_asked_to_stop_keeps_its_checkpoint(recipe: ForecastRecipe, options: Options) -> None:
    endless = replace(recipe, fit=replace(recipe.fit, epochs=100_000, patience=100_000))
    checkpoint = options.work / "wave" / "checkpoints" / "last.npz"
    with subprocess.Popen([sys.executable, "-c", _TRAINS], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(pickle.dumps((endless, options.data, options.work)))
        process.stdin.close()
        until_s = time.monotonic() + 60
        while not checkpoint.exists():
            assert process.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
        assert process.stderr
        assert process.stderr.read() == b""
    with np.load(checkpoint) as kept:
        assert len(kept["history"]) > 1
    assert not (options.work / "wave" / "model.keras").exists()
