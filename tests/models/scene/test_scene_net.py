"""A camera's net: what it is told by, what it is held against, and that the device scores as the training does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

from contract.scene import SceneManifest, parse_scene
from edge.inference.scene import load_scene
from edge.models.package import Package, forms_of
from edge.sources.camera.scene import _settings
from edge.vision.scene import MeanBackground, SceneScore
from edge.vision.trained import TrainedScene
from models.errors import TrainingError, UsageError
from models.evaluation.document import headline, verdict
from models.options import PACKAGE, Options
from models.registry import Registry
from models.scene.fit import SceneFit
from models.scene.judging import NET, Judged
from models.scene.made_up import made_up
from models.scene.net import SceneNet
from models.scene.samples import Samples
from models.scene.scoring import Light, PixelStatistics, mean_background
from models.scene.stage import make_scene_gate, name_of_camera
from models.scene.training import parted, train_scene
from simulators.history.camera import camera_history

if TYPE_CHECKING:
    from pathlib import Path

NOISE = np.random.default_rng(3)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated camera's model, made quickly."""
    place = tmp_path_factory.mktemp("models")
    options = Options(console=Console(quiet=True), data=place / "data", work=place / "work", quick=True)
    return make_scene_gate(options)


def test_the_baseline_here_is_the_devices() -> None:
    watched = camera_history(7, 60, 2.0, hours="05:30-06:00")
    score = SceneScore(MeanBackground())
    told = [
        score.look(picture, taken_ms / 1000) for picture, taken_ms in zip(watched.pictures, watched.at_ms, strict=True)
    ]
    ours = mean_background(watched.pictures, watched.at_ms)
    assert told[:21] == [None] * 21
    np.testing.assert_allclose(ours[21:], [each or 0 for each in told[21:]], rtol=1e-3, atol=1e-4)


def test_what_is_held_back_is_later_and_apart() -> None:
    samples = Samples("a/b/c", "here", np.arange(100, dtype=np.int64), np.zeros((100, 96, 96), np.uint8))
    learnt, held = parted(samples)
    assert (len(learnt), len(held)) == (55, 40)
    assert learnt.at_ms[-1] + 5 < held.at_ms[0]
    with pytest.raises(TrainingError, match="a/b/c: 59 samples: at least 60 are needed"):
        parted(samples[:59])


def test_statistics_see_what_they_can() -> None:
    usual = NOISE.normal(100, 3, (60, 96, 96)).astype(np.uint8)
    strange = made_up(usual[:5], 1)
    pixels, light = PixelStatistics(usual[:40], usual[40:]), Light(usual[:40])
    assert pixels.scores(strange["something there"]).min() > pixels.scores(usual).max()
    assert light.scores(strange["dark"]).min() > light.scores(usual).max()
    assert all(pictures.shape == (5, 96, 96) and pictures.dtype == np.uint8 for pictures in strange.values())


def test_others_get_the_nets_share_of_false_alarms() -> None:
    kind = np.array([""] * 8 + ["dark"] * 4)
    net = np.array([0, 0, 0, 0, 0, 0, 5, 5, 9, 9, 9, 9], np.float32)
    other = np.array([0, 1, 2, 3, 4, 5, 6, 7, 9, 6.5, 1, 1], np.float32)
    judged = Judged({NET: net, "light": other}, kind, 1.0, np.arange(12))
    assert (judged.recall(NET, "dark"), judged.recall("light", "dark")) == (1.0, 0.5)
    assert judged.strongest == "light"
    assert judged.average_precision(NET) == 1.0
    assert 0 < judged.gain_over("light", 1).skill <= 1


def test_the_device_scores_as_the_training_does(gate: Path) -> None:
    manifest = parse_scene((gate / PACKAGE / "manifest.json").read_bytes(), "manifest.json")
    net = SceneNet.load(gate / "model.keras", manifest.output.usual)
    watched = camera_history(7, 40, 300.0, hours="02:00-06:00", day=9)
    exact = net.scores(watched.pictures)
    package = Package(manifest, gate / PACKAGE, "digest")
    for file in manifest.tflite_files:
        settings = _settings(package, file.form)
        assert settings.forms == forms_of([file])
        device = TrainedScene(load_scene(settings))
        told: list[Any] = [
            device.look(picture.astype(np.float32), taken_ms / 1000)
            for picture, taken_ms in zip(watched.pictures, watched.at_ms, strict=True)
        ]
        if file.form != "int8":
            np.testing.assert_allclose([verdict.score for verdict in told], exact, atol=2e-2)
    assert manifest.quiet_hours == "02:00-08:00"


def test_what_is_made_says_how_it_did_and_from_what(gate: Path) -> None:
    manifest = parse_scene((gate / PACKAGE / "manifest.json").read_bytes(), "manifest.json")
    evaluation = json.loads((gate / "evaluation.json").read_text())
    assert manifest.skill == verdict(evaluation)
    assert manifest.metrics == headline(evaluation)
    assert set(evaluation["methods"]) == {NET, "mean_background", "pixel_statistics", "light"}
    assert len(evaluation["methods"][NET]["kinds"]) == 8, "every kind of incident that the camera knows"
    # However briefly it was trained: nobody overlooks a lens that is covered.
    covered = evaluation["methods"][NET]["kinds"]["lens_covered"]
    assert covered["average_precision"] > 0.9
    assert evaluation["events"]["kinds"]["lens_covered"]["events"] > 0
    assert {"trained.json", "quantization.json", "report.html"} <= {each.name for each in gate.iterdir()}
    assert "What it tells from what is usual" in (gate / "report.html").read_text()


def test_its_package_is_registered_like_any_other(gate: Path, tmp_path: Path) -> None:
    card = Registry(str(tmp_path)).register(gate / PACKAGE).card
    assert isinstance(card, SceneManifest)
    assert card.camera == "demo/edge-1/gate"


def test_the_same_seed_gives_the_same_net() -> None:
    pictures = NOISE.normal(100, 3, (60, 96, 96)).astype(np.uint8)
    samples = Samples("a/b/c", "here", np.arange(60, dtype=np.int64), pictures)
    fit = SceneFit(epochs=1)
    first, same = (train_scene(samples, fit, seed=1).net.errors(pictures) for _ in range(2))
    np.testing.assert_array_equal(first, same)


@pytest.mark.parametrize("camera", ["gate", "demo/edge-1", "a/b/c/d", "a//c"])
def test_a_camera_is_named_whole(camera: str) -> None:
    with pytest.raises(UsageError, match="allowed is GROUP/NODE/DEVICE"):
        name_of_camera(camera)
    assert name_of_camera("demo/edge-1/gate") == "scene-demo-edge-1-gate"
