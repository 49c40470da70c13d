from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.vision.scene import SIDE, MeanBackground, SceneScore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from edge.vision.picture import Grey

NOISE = np.random.default_rng(5)


def grainy(level: int = 100, sigma: float = 6.0, size: tuple[int, int] = (96, 96)) -> Grey:
    return np.clip(NOISE.normal(level, sigma, size), 0, 255).astype(np.uint8)


def test_there_is_no_score_before_there_is_something_to_compare_with() -> None:
    score = SceneScore(MeanBackground())
    found = [score.look(grainy(), at_s) for at_s in range(40)]
    assert found[:20] == [None] * 20
    assert all(value is not None and value < 0.5 for value in found[25:])


def test_a_brighter_scene_and_a_stiller_one_both_score() -> None:
    score = SceneScore(MeanBackground())
    for at_s in range(60):
        score.look(grainy(), at_s)
    brighter = score.look(grainy(140), 60)
    assert brighter is not None
    assert brighter > 2

    score = SceneScore(MeanBackground())
    for at_s in range(60):
        score.look(grainy(sigma=20), at_s)
    stiller = score.look(grainy(sigma=2), 60)
    assert stiller is not None
    assert stiller > 1, "what is explained better than usual is as strange as what is explained worse"


def test_a_change_that_stays_becomes_usual() -> None:
    score = SceneScore(MeanBackground(learn_s=30))
    for at_s in range(40):
        score.look(grainy(), at_s)
    scores = [score.look(grainy(140), 40 + at_s) for at_s in range(400)]
    assert scores[0] is not None
    assert scores[-1] is not None
    assert scores[0] > 2
    assert scores[-1] < 0.5


def test_what_lies_under_a_mask_does_not_count() -> None:
    masked = MeanBackground([((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))])
    scene = np.full((SIDE, SIDE), 100, np.float32)
    masked.error(scene, 0)
    changed = scene.copy()
    changed[:, : SIDE // 2] = 200
    assert masked.error(changed, 1) == 0


def test_a_model_takes_the_place_of_the_mean() -> None:
    class Model:
        """As a trained one would: it says how badly it explains a thumbnail."""

        def error(self, thumb: NDArray[np.float32], at_s: float) -> float:
            assert thumb.shape == (SIDE, SIDE)
            assert thumb.dtype == np.float32
            return 8.0 if at_s == 30 else 1.0

    score = SceneScore(Model())
    found = [score.look(grainy(size=(240, 320)), at_s) for at_s in range(31)]
    assert found[29] == 0
    assert found[30] == pytest.approx(math.log(8.25 / 1.25))


@pytest.mark.parametrize("incident", ["lens_covered", "lights_out", "smoke", "camera_moved"])
def test_what_changes_the_scene_scores_higher_than_ever_before(
    incident: str, yard: Callable[..., Iterator[tuple[float, Grey]]]
) -> None:
    score = SceneScore(MeanBackground())
    found = {at_s: score.look(grey, at_s) for at_s, grey in yard(incident, seconds=(120, 10, 0))}
    usual = [value for at_s, value in found.items() if at_s < 0 and value is not None]
    strange = [value for at_s, value in found.items() if at_s >= 0 and value is not None]
    assert max(strange) > max(usual)
    assert np.median(strange) > 2 * np.median(usual)
