"""Motion in zones and under masks, on drawn pictures and on the simulated yard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.vision.motion import AreaMotion, MotionDetector, changed_pixels
from edge.vision.settings import AreaSettings, MotionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.vision.picture import Grey

SHAPE = (120, 160)
WHOLE = AreaSettings(None, 0.005, 1, 5)
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))


def textured(seed: int = 1) -> Grey:
    """A still scene with something in it."""
    coarse = np.random.default_rng(seed).integers(80, 200, (6, 8)).astype(np.uint8)
    return np.kron(coarse, np.ones((20, 20), np.uint8)).astype(np.uint8)


def with_box(grey: Grey, left: int, level: int = 250) -> Grey:
    """The scene with a box of 20 x 20."""
    shown = grey.copy()
    shown[50:70, left : left + 20] = level
    return shown


def detector(masks: tuple[object, ...] = (), **areas: AreaSettings) -> MotionDetector:
    return MotionDetector(MotionSettings({"": WHOLE, **areas}, masks, 20))  # type: ignore[arg-type]  # polygons


def second_look(before: Grey, now: Grey, of: MotionDetector) -> dict[str, AreaMotion]:
    assert of.look(before, 0) is None
    found = of.look(now, 1)
    assert found is not None
    return found


def test_the_fraction_is_that_of_the_zones_own_pixels() -> None:
    zones = {"left": AreaSettings(LEFT, 0.01, 1, 5), "right": AreaSettings(RIGHT, 0.01, 1, 5)}
    found = second_look(textured(), with_box(textured(), 20), detector(**zones))
    box = 400 / (SHAPE[0] * SHAPE[1])
    assert found[""].fraction == pytest.approx(box, rel=0.3)
    assert found["left"].fraction == pytest.approx(2 * box, rel=0.3)
    assert found["right"].fraction == 0


def test_what_lies_under_a_mask_is_not_seen() -> None:
    found = second_look(textured(), with_box(textured(), 20), detector((LEFT,)))
    assert found[""].fraction == 0
    found = second_look(textured(), with_box(textured(), 100), detector((LEFT,)))
    assert found[""].fraction > 0.02


def test_a_mask_over_everything_is_no_mask() -> None:
    everything = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    assert second_look(textured(), with_box(textured(), 20), detector((everything,)))[""].fraction > 0


@given(gain=st.floats(0.35, 1.2), offset=st.floats(-10, 10), seed=st.integers(0, 100))
@settings(max_examples=40)
def test_a_change_of_all_the_light_is_no_motion(gain: float, offset: float, seed: int) -> None:
    scene = textured(seed)
    relit = np.clip(gain * scene.astype(float) + offset, 0, 255).astype(np.uint8)
    assert second_look(scene, relit, detector())[""].fraction < 0.002


@given(gain=st.floats(0.6, 1.2), seed=st.integers(0, 100))
@settings(max_examples=20)
def test_a_box_is_seen_while_the_light_changes(gain: float, seed: int) -> None:
    scene = textured(seed)
    relit = np.clip(gain * with_box(scene, 60, level=5).astype(float), 0, 255).astype(np.uint8)
    assert second_look(scene, relit, detector())[""].fraction > 0.01


def test_noise_is_no_motion() -> None:
    noise, looking = np.random.default_rng(3), detector()
    for at_s in range(20):
        grainy = np.clip(textured() + noise.normal(0, 12, SHAPE), 0, 255).astype(np.uint8)
        found = looking.look(grainy, at_s)
        assert found is None or found[""].fraction < 0.001


def test_pixels_that_change_too_little_have_not_changed() -> None:
    before = textured().astype(np.float32)
    now = before.copy()
    now[50:70, 20:40] += 15
    everywhere = np.ones(SHAPE, np.bool_)
    assert np.count_nonzero(changed_pixels(before, now, everywhere, 20)) == 0
    assert np.count_nonzero(changed_pixels(before, now, everywhere, 10)) == 400


def test_motion_must_last_and_so_must_rest() -> None:
    looking = detector()
    moving = [with_box(textured(), left) for left in (20, 60)]
    active = []
    for n in range(40):
        # Ten frames of rest, ten of motion, twenty of rest; two frames a second.
        grey = moving[n % 2] if 10 <= n < 20 else moving[0]
        found = looking.look(grey, n / 2)
        active.append(found is not None and found[""].active)
    # Frames 11 to 20 differ from the one before: a second after the first it moves, five after the last it rests.
    assert active == [13 <= n < 31 for n in range(40)]


def test_a_single_frame_of_motion_is_none() -> None:
    looking = detector()
    for n, left in enumerate([20, 20, 20, 60, 60, 60, 60, 60, 60]):
        found = looking.look(with_box(textured(), left), n / 2)
        assert found is None or not found[""].active


def test_another_size_of_picture_has_nothing_to_be_compared_with() -> None:
    looking = detector()
    assert looking.look(textured(), 0) is None
    assert looking.look(textured()[:100], 1) is None
    assert looking.look(textured()[:100], 2) is not None


@pytest.mark.parametrize("hour", [12, 0], ids=["noon", "night"])
def test_an_intruder_sets_off_the_yard_and_passers_by_do_not(
    hour: float, yard: Callable[..., Iterator[tuple[float, Grey]]]
) -> None:
    inside = AreaSettings(((0.0, 0.68), (1.0, 0.68), (1.0, 1.0), (0.0, 1.0)), 0.01, 1, 5)
    looking, active = detector(yard=inside), {}
    for at_s, grey in yard("intrusion", hour=hour, seconds=(60, 20, 15)):
        found = looking.look(grey, at_s)
        active[at_s] = found is not None and found["yard"].active
    begun = min(at_s for at_s, is_active in active.items() if is_active)
    over = max(at_s for at_s, is_active in active.items() if is_active)
    assert 0 < begun <= 3
    assert 20 <= over <= 27
    assert all(is_active for at_s, is_active in active.items() if begun <= at_s <= 20)
