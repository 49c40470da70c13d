"""Tampering on the simulated yard: each kind is found in time, and a quiet scene raises no alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edge.vision.settings import TamperSettings
from edge.vision.tamper import Tamper, TamperWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from edge.vision.picture import Grey

    Yard = Callable[..., Iterator[tuple[float, Grey]]]

SETTINGS = TamperSettings(after_s=5, clear_s=5, frozen_after_s=15, relearn_s=900)
NOON, NIGHT = 12, 0


def changes(frames: Iterable[tuple[float, Grey]], watch: TamperWatch | None = None) -> list[tuple[float, Tamper]]:
    """When what was said became what."""
    watch = watch or TamperWatch(SETTINGS)
    said = [(at_s, watch.look(grey, at_s)) for at_s, grey in frames]
    return [one for before, one in zip([(0.0, Tamper.NONE), *said], said, strict=False) if one[1] != before[1]]


@pytest.mark.parametrize("hour", [NOON, NIGHT], ids=["noon", "night"])
@pytest.mark.parametrize(
    ("incident", "kind", "within_s"),
    [
        ("lens_covered", Tamper.COVERED, 7),
        ("lens_defocused", Tamper.BLURRED, 7),
        ("camera_moved", Tamper.MOVED, 7),
        ("frozen", Tamper.FROZEN, 17),
    ],
)
def test_each_kind_is_told_in_time_and_taken_back(
    incident: str, kind: Tamper, within_s: float, hour: float, yard: Yard
) -> None:
    (begun_s, said), (over_s, back) = changes(yard(incident, hour=hour, seconds=(25, 25, 10)))
    assert (said, back) == (kind, Tamper.NONE)
    assert 5 <= begun_s <= within_s
    assert 4 <= over_s - 25 <= 7


@pytest.mark.parametrize("incident", ["intrusion", "smoke", "lights_out", "rearranged"])
def test_what_happens_in_front_of_a_camera_is_no_tampering(incident: str, yard: Yard) -> None:
    assert changes(yard(incident, seconds=(25, 25, 5))) == []


@pytest.mark.parametrize(
    "scene",
    [
        {"hour": NOON, "seed": 3},
        {"hour": NIGHT, "seed": 5},
        # Two whole days, each of five minutes: the light is never the same.
        {"hour": NOON, "seed": 11, "day_s": 300.0},
    ],
    ids=["noon", "night", "fast days"],
)
def test_ten_quiet_minutes_raise_no_alarm(scene: dict[str, float], yard: Yard) -> None:
    # As small as what is judged anyway, to be rendered faster.
    assert changes(yard(seconds=(0, 600, 0), fps=1, width=160, height=120, **scene)) == []


def test_a_lamp_that_is_switched_on_and_off_at_night_is_no_tampering(yard: Yard) -> None:
    x, y = np.meshgrid(np.arange(320), np.arange(240))
    lit = 150 * np.exp(-(((x - 240) / 40) ** 2) - ((y - 120) / 50) ** 2)

    def switched() -> Iterator[tuple[float, Grey]]:
        ((_, noon),) = yard(seconds=(1, 0, 0), fps=1)
        rng = np.random.default_rng(1)
        for n in range(540):
            dark = 0.15 * noon + rng.normal(0, 4, noon.shape)
            yield n, np.clip(dark + lit * (n // 180 % 2), 0, 255).astype(np.uint8)

    assert changes(switched()) == []


def test_what_is_not_put_right_becomes_the_usual_view(yard: Yard) -> None:
    watch = TamperWatch(TamperSettings(after_s=5, clear_s=5, frozen_after_s=15, relearn_s=20))
    (_, said), (back_s, back) = changes(yard("camera_moved", seconds=(25, 40, 0)), watch)
    assert (said, back) == (Tamper.MOVED, Tamper.NONE)
    assert 20 <= back_s <= 30


def test_a_glance_is_no_tampering(yard: Yard) -> None:
    assert changes(yard("lens_covered", seconds=(25, 3, 15))) == []


def test_a_turned_camera_shows_other_edges_though_no_shift_explains_them(yard: Yard) -> None:
    def turned() -> Iterator[tuple[float, Grey]]:
        turn = cv2.getRotationMatrix2D((160, 120), 5, 1.1)
        for at_s, grey in yard(seconds=(25, 20, 0)):
            seen = grey if at_s < 0 else cv2.warpAffine(grey, turn, (320, 240), borderMode=cv2.BORDER_REFLECT)
            yield at_s, np.asarray(seen, np.uint8)

    ((_, said),) = changes(turned())
    assert said is Tamper.MOVED


def test_perfect_darkness_is_covered_and_not_frozen(yard: Yard) -> None:
    dark = ((at_s, np.zeros_like(grey) if at_s >= 0 else grey) for at_s, grey in yard(seconds=(25, 30, 0)))
    ((begun_s, said),) = changes(dark)
    assert (said, begun_s <= 7) == (Tamper.COVERED, True)


def test_a_view_that_shows_nothing_is_not_judged() -> None:
    flat = np.full((240, 320), 80, np.uint8)
    noise = np.random.default_rng(1)
    frames = [(float(n), flat + noise.integers(0, 3, flat.shape, np.uint8)) for n in range(60)]
    assert changes(frames) == []


def test_a_clock_in_the_picture_hides_no_freeze(yard: Yard) -> None:
    def with_clock() -> Iterator[tuple[float, Grey]]:
        for at_s, grey in yard("frozen", seconds=(25, 25, 0)):
            shown = grey.copy()
            shown[:12, :60] = np.random.default_rng(round(10 * at_s) + 1000).integers(0, 256, (12, 60))
            yield at_s, shown

    mask = ((0.0, 0.0), (0.2, 0.0), (0.2, 0.06), (0.0, 0.06))
    ((_, said),) = changes(with_clock(), TamperWatch(SETTINGS, [mask]))
    assert said is Tamper.FROZEN


def test_another_size_of_picture_is_another_view(yard: Yard) -> None:
    frames = list(yard(seconds=(0, 20, 0)))
    wide = [(at_s + 20, grey[:200]) for at_s, grey in frames]
    assert changes([*frames, *wide]) == []
