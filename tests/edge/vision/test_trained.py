"""A trained model in the camera's process: its score, its hours, and what is sent to train it on."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from contract import scene as contract
from edge.vision import scene
from edge.vision.motion import AreaMotion
from edge.vision.sampling import Sampler
from edge.vision.scene import SceneWatch, thumb_of
from edge.vision.settings import LearnSettings
from edge.vision.tamper import Tamper
from edge.vision.trained import ModelFault, TrainedScene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.vision.picture import Grey

NETS = Path(__file__).parents[1] / "camera" / "nets"
MIDNIGHT = 1_795_305_600
STILL = {"": AreaMotion(0.0, active=False)}
MOVING = {"": AreaMotion(0.1, active=True)}
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def loaded(net: str = "flat", **changes: Any) -> TrainedScene:
    content = (NETS / f"{net}.tflite").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    form = {"form": "float32", "file": f"{net}.tflite", "sha256": digest, "size_bytes": len(content)}
    document = {"key": "k", "directory": str(NETS), "forms": [form], "side": 96, "usual": 99.75, "floor": 0.25}
    limits = {"threshold": 1.0, "clear": 0.5, "begin_s": 0, "span_s": 86_400}
    return TrainedScene.load(document | limits | changes)


def grey(level: float) -> Grey:
    """Its error by `flat` is (level - 127.5) squared."""
    return np.full((96, 96), level, np.uint8)


def test_what_is_written_twice_is_the_same() -> None:
    assert (scene.SIDE, scene.BLANK, scene._FLOOR) == (contract.SIDE, contract.BLANK, contract.FLOOR)


def test_the_score_is_the_contracts_and_two_sided() -> None:
    watch = SceneWatch()
    watch.use(loaded())
    brighter, usual = (watch.look(grey(level), n, 0).score for n, level in enumerate((157, 137)))
    assert brighter == pytest.approx(math.log((29.5**2 + 0.25) / 100), rel=1e-5)
    assert usual == pytest.approx(abs(math.log((9.5**2 + 0.25) / 100)), rel=1e-4)
    better = watch.look(grey(128), 2, 0)
    assert better.score == pytest.approx(math.log(100 / 0.5), rel=1e-4)
    assert better.is_anomaly


def test_an_anomaly_lasts_until_it_is_clear() -> None:
    watch = SceneWatch()
    watch.use(loaded(threshold=1.0, clear=0.3))
    assert [watch.look(grey(level), n, 0).is_anomaly for n, level in enumerate((140, 147, 140, 137, 140))] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_outside_of_its_hours_the_baseline_scores() -> None:
    watch = SceneWatch()
    watch.use(loaded(begin_s=22 * 3600, span_s=7 * 3600))
    found = {hour: watch.look(grey(200), hour, MIDNIGHT + 3600 * hour).is_anomaly for hour in (21, 22, 28, 29)}
    assert found == {21: None, 22: True, 28: True, 29: None}
    assert watch.state == "resting"


def test_what_lies_under_a_mask_does_not_count() -> None:
    watch = SceneWatch([LEFT_HALF])
    watch.use(loaded())
    shown = grey(137)
    first = watch.look(shown, 0, 0).score
    shown[:, :40] = 255
    assert watch.look(shown, 1, 0).score == first


def test_a_model_that_fails_leaves_the_baseline() -> None:
    watch = SceneWatch()
    watch.use(loaded("nan-in-the-dark"))
    for n in range(30):
        watch.look(grey(100 + n % 2), n, 0)
    assert watch.state == "ok"
    dark = watch.look(grey(5), 30, 0)
    assert dark.is_anomaly is None
    assert dark.score is not None
    assert dark.score > 4
    assert (watch.state, watch.fault) == ("failing", "its picture has numbers that are not finite")
    assert watch.look(grey(100), 31, 0).is_anomaly is not None


@pytest.mark.parametrize(("changes", "complaint"), [({"side": 64}, "the manifest says 1 x 64 x 64 x 1")])
def test_what_is_not_what_it_is_said_to_be_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelFault, match=complaint):
        loaded(**changes)


def sampler(masks: tuple[Any, ...] = (), **changes: Any) -> Sampler:
    options = {"every_s": 60.0, "begin_s": 22 * 3600, "span_s": 7 * 3600, "while_motion": False} | changes
    return Sampler(LearnSettings(**options), masks)


def taken(of: Sampler, motion: Any, tamper: Tamper = Tamper.NONE, hour: float = 23) -> bool:
    of.note(motion, tamper)
    return of.look(grey(100), 0, MIDNIGHT + 3600 * hour) is not None


def test_a_sample_is_taken_in_quiet_hours_while_nothing_happens() -> None:
    assert taken(sampler(), STILL)
    assert not taken(sampler(), STILL, hour=21.9)
    assert not taken(sampler(), STILL, hour=5)
    assert not taken(sampler(), MOVING)
    assert not taken(sampler(), None), "nothing is known of motion yet"
    assert not taken(sampler(), STILL, Tamper.COVERED)
    assert taken(sampler(while_motion=True), MOVING)
    assert not taken(sampler(while_motion=True), MOVING, Tamper.MOVED)


def test_samples_are_so_far_apart_and_end() -> None:
    of = sampler()
    of.note(STILL, Tamper.NONE)
    assert [n for n in range(200) if of.look(grey(100), n, MIDNIGHT + n) is not None] == [0, 60, 120, 180]
    of.is_over = True
    assert of.look(grey(100), 1000, MIDNIGHT) is None


def test_a_sample_shows_nothing_under_a_mask_and_is_otherwise_what_the_model_sees(
    yard: Callable[..., Iterator[tuple[float, Grey]]],
) -> None:
    (_, frame), *_ = yard(seconds=(1, 0, 0), hour=23)
    of = sampler((LEFT_HALF,))
    of.note(STILL, Tamper.NONE)
    jpeg = of.look(frame, 0, MIDNIGHT)
    assert jpeg is not None
    assert len(jpeg) < 8000
    seen = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert seen.shape == (96, 96)
    assert np.abs(seen[:, :47].astype(int) - contract.BLANK).max() <= 1, "not even in the JPEG's own blur"
    away = seen[:, 49:].astype(np.float32) - thumb_of(frame)[:, 49:]
    assert np.square(away).mean() < 0.15, "a JPEG's own noise, of which a model would learn"
