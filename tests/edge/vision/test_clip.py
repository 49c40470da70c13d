"""Clips: which frames, and how large at most."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.vision.clip import FrameTime, Recorder, Ring, Shot, _Kept, bounded
from edge.vision.settings import ClipSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS = ClipSettings(
    triggers=("motion",),
    scene_score=4.0,
    before=2,
    during=3,
    after=2,
    spacing_s=1.0,
    max_width=64,
    quality=75,
    max_frame_bytes=20_000,
    max_event_bytes=100_000,
    ring_bytes=1_000_000,
)


def noise(width: int, height: int, seed: int = 0) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 95))[1])


SMALL = noise(32, 24)


def recorded(incidents: Sequence[Sequence[str]], step_s: float = 1.0, **changes: Any) -> list[Shot]:
    """The clips of frames `step_s` apart, each with what goes on in it; a frame's arrival is its place."""
    recorder = Recorder(replace(SETTINGS, **changes))
    return [
        shot
        for n, ongoing in enumerate(incidents)
        for shot in recorder.look(n * step_s, FrameTime(None, n), lambda: SMALL, ongoing)
    ]


def places(shots: Sequence[Shot]) -> list[int]:
    return [round(shot.taken.arrived_s) for shot in shots]


QUIET: tuple[str, ...] = ()
MOTION = ("motion",)


def test_a_clip_has_frames_from_before_during_and_after() -> None:
    shots = recorded([*[QUIET] * 5, *[MOTION] * 6, *[QUIET] * 6])
    assert places(shots) == [3, 4, 5, 6, 7, 11, 12]
    assert [shot.frame_no for shot in shots] == [1, 2, 3, 4, 5, 6, 7]
    assert {(shot.event, shot.kind, shot.frames, shot.started.arrived_s) for shot in shots} == {(1, "motion", 7, 5)}


def test_frames_between_the_spacing_are_passed_over() -> None:
    shots = recorded([*[QUIET] * 10, *[MOTION] * 12, *[QUIET] * 12], step_s=0.25)
    assert places(shots) == [4, 8, 10, 14, 18, 22, 26]


def test_a_short_incident_skips_to_its_end() -> None:
    shots = recorded([*[QUIET] * 3, MOTION, *[QUIET] * 6])
    assert places(shots) == [1, 2, 3, 4, 5]
    assert {shot.frames for shot in shots} == {7}


def test_an_incident_without_end_gets_its_last_frames_after_a_minute() -> None:
    assert places(recorded([QUIET] * 3 + [MOTION] * 100)) == [1, 2, 3, 4, 5, 63, 64]


def test_nothing_is_sent_without_an_incident() -> None:
    assert recorded([QUIET] * 50) == []


def test_a_second_incident_is_in_the_first_clip_or_has_its_own() -> None:
    both = recorded([*[QUIET] * 3, MOTION, *[("covered", "motion")] * 10])
    assert {shot.kind for shot in both} == {"motion"}
    later = recorded([*[QUIET] * 3, *[MOTION] * 5, *[("covered", "motion")] * 4])
    assert [(shot.event, shot.kind) for shot in later] == [(1, "motion")] * 5 + [(2, "covered")] * 5
    assert places(later)[5:] == [6, 7, 8, 9, 10]


def test_what_would_go_over_the_events_bytes_is_left_out() -> None:
    size = len(bounded(SMALL, SETTINGS) or b"")
    recorder = Recorder(replace(SETTINGS, max_event_bytes=3 * size))
    shots = [
        shot for n in range(12) for shot in recorder.look(n, FrameTime(None, n), lambda: SMALL, MOTION if n > 3 else ())
    ]
    assert len(shots) == 3
    assert recorder.left_out == 2


@given(
    steps=st.lists(st.tuples(st.floats(0.1, 600), st.booleans()), max_size=120),
    event_frames=st.integers(1, 5),
)
@settings(max_examples=50, deadline=None)
def test_no_event_takes_more_than_its_bytes(steps: list[tuple[float, bool]], event_frames: int) -> None:
    size = len(bounded(SMALL, SETTINGS) or b"")
    recorder = Recorder(replace(SETTINGS, max_event_bytes=event_frames * size, after=1))
    at_s, sent = 0.0, []
    for step_s, moves in steps:
        at_s += step_s
        found = recorder.look(at_s, FrameTime(None, at_s), lambda: SMALL, MOTION if moves else ())
        sent += [(at_s, shot) for shot in found]
    for event in {shot.event for _, shot in sent}:
        numbers = [shot.frame_no for _, shot in sent if shot.event == event]
        assert len(numbers) <= event_frames
        assert numbers == sorted(set(numbers))


def test_the_ring_keeps_the_newest_that_fit() -> None:
    ring = Ring(10, 1000)
    for n in range(8):
        ring.add(_Kept(n, FrameTime(None, n), bytes(300)))
    assert ring.size_bytes <= 1000
    assert [one.at_s for one in ring.take()] == [5, 6, 7]
    ring.add(_Kept(9, FrameTime(None, 9), bytes(1001)))
    assert ring.take() == []


@pytest.mark.parametrize(("width", "height"), [(1600, 1200), (64, 48), (32, 24), (3000, 8)])
def test_a_frame_leaves_no_wider_and_no_larger_than_allowed(width: int, height: int) -> None:
    limits = replace(SETTINGS, max_frame_bytes=4096)
    sent = bounded(noise(width, height), limits)
    assert sent is not None
    assert len(sent) <= 4096
    shape = cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_COLOR).shape
    assert shape[1] <= min(64, width)


def test_a_frame_that_cannot_be_made_small_enough_is_not_sent() -> None:
    assert bounded(noise(1600, 1200), replace(SETTINGS, max_width=1600, max_frame_bytes=2048)) is None
    assert bounded(b"\xff\xd8 no picture \xff\xd9", SETTINGS) is None


def test_nothing_but_the_picture_leaves() -> None:
    exif = b"\xff\xe1\x00\x18Exif\0\0 51.5N 13.4E, Ada"
    original = SMALL[:2] + exif + SMALL[2:-2] + b"\xff\xd9"
    assert cv2.imdecode(np.frombuffer(original, np.uint8), cv2.IMREAD_COLOR) is not None
    sent = bounded(original, SETTINGS)
    assert sent is not None
    assert b"Exif" not in sent
    assert b"Ada" not in sent
