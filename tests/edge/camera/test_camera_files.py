"""Recordings, and the USB camera that is not there."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edge.sources.camera.child import settings_of
from edge.vision.files import file_frames
from edge.vision.mjpeg import StreamFault
from edge.vision.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge.reading import Reading


def brightness(readings: list[Reading]) -> list[Any]:
    return [reading.value for reading in readings if reading.metric == "brightness"]


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    """A directory of three grey JPEGs, a broken one, and something else."""
    for level in (10, 20, 30):
        cv2.imwrite(str(tmp_path / f"still-{level}.jpg"), np.full((48, 64), level, np.uint8))
    (tmp_path / "still-25.jpeg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "notes.txt").write_text("nothing to see")
    return tmp_path


def frames(count: int) -> Callable[[list[Reading]], bool]:
    """Until so many were measured."""
    return lambda readings: len(brightness(readings)) >= count


def test_stills_come_one_a_poll_and_begin_again(stills: Path, cameras: Any) -> None:
    config = cameras.config(file=str(stills), playback="polled", loop=True)
    started_s = time.monotonic()
    found = brightness(asyncio.run(cameras.watched(config, frames(10))))
    assert found[:10] == [10, 20, None, 30, 10, 20, None, 30, 10, 20]
    assert time.monotonic() - started_s < 8, "faster than one an interval"


def test_each_poll_of_a_recording_brings_one_frame_and_then_none(stills: Path, cameras: Any) -> None:
    async def polls(config: Any) -> list[int]:
        async with config.open(cameras.clock) as source:
            return [len(brightness(await source.poll())) for _ in range(7)]

    config = cameras.config(file=str(stills), playback="polled", lost_after_s=20)
    assert asyncio.run(polls(config)) == [1, 1, 1, 1, 0, 0, 0]


def test_a_video_is_played_at_its_own_rate(video: Any, cameras: Any) -> None:
    config = cameras.config(file=str(video(30, fps=20.0)), interval_s=0.05)
    found = asyncio.run(cameras.watched(config, frames(20)))
    times = [reading.sampled_at_ms for reading in found if reading.metric == "brightness"]
    assert 0.9 <= (times[19] - times[0]) / 1000 <= 5
    assert all(later >= earlier for earlier, later in pairwise(times))
    assert max(reading.value for reading in found if reading.metric == "motion") > 0.01


def test_a_recording_that_is_over_is_silent_and_not_lost(
    video: Any, cameras: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def beyond(config: Any) -> list[Reading]:
        async with config.open(cameras.clock) as source:
            found: list[Reading] = await cameras.polled(source, frames(5))
            await asyncio.sleep(1.2)
            return found + await source.poll()

    config = cameras.config(file=str(video(5, fps=50.0)), interval_s=0.02, lost_after_s=1)
    with caplog.at_level("INFO"):
        assert len(brightness(asyncio.run(beyond(config)))) == 5
    assert "was played to its end" in caplog.text


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("nothing.avi", "there is no such file"), ("notes.txt", "no video that can be read"), ("empty", "no frame in it")],
)
@pytest.mark.parametrize("loop", [False, True])
def test_a_recording_that_cannot_be_played_is_told(
    name: str,
    complaint: str,
    loop: Any,
    stills: Path,
    cameras: Any,
) -> None:
    (stills / "empty").mkdir(exist_ok=True)
    with pytest.raises(StreamFault, match=complaint):
        next(file_frames(settings_of(cameras.config(file=str(stills / name), loop=loop), None), Stop()))


def test_a_polled_recording_that_cannot_be_played_is_lost(stills: Path, cameras: Any) -> None:
    config = cameras.config(file=str(stills / "notes.txt"), playback="polled", lost_after_s=1)
    why = asyncio.run(cameras.failing(config))
    assert "notes.txt: no frame" in why
    assert "no video that can be read" in why


def test_a_device_that_is_not_there_is_told(cameras: Any) -> None:
    why = asyncio.run(cameras.failing(cameras.config(device="/dev/video99", lost_after_s=1)))
    assert "camera /dev/video99: no frame" in why
    assert "cannot be opened" in why


def test_a_relative_path_is_that_of_the_agent(stills: Path, cameras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stills.parent)
    config = cameras.config(file=stills.name, playback="polled")
    assert brightness(asyncio.run(cameras.watched(config, frames(1)))) == [10]
