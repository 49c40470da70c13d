"""A real camera with a model of its scene: learnt for, served, exchanged while it runs, given up when it fails."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np

from contract.clips import CLIP, ClipFrame
from contract.scene import REQUEST, SAMPLE
from contract.sparkplug import decode
from edge.batch import batches_of_poll
from edge.lane import Lane
from edge.sources.camera.scene import STATE, VERSION

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from edge.reading import Reading
    from edge.sources.base import Place

RIGHT_HALF = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
QUICK = {"interval_s": 0.2, "max_fps": 5, "cpu_percent": 100, "lost_after_s": 20}


def config(cameras: Any, camera: Any, place: Place, **scene: Any) -> Any:
    made = cameras.config(url=camera.addresses["mjpeg"], scene=scene, **QUICK)
    made.settle(place)
    return made


def told(readings: list[Reading], metric: str) -> list[Any]:
    return [reading.value for reading in readings if reading.metric == metric]


def cover(camera: Any, duration_s: float = 30) -> None:
    url = f"{camera.addresses['url']}/incidents?kind=lens_covered&duration_s={duration_s}"
    assert httpx.post(url, timeout=5).status_code == 201


def test_samples_leave_until_a_model_is_asked_for_and_masks_stay_blank(
    simulated_camera: Any, cameras: Any, place: Place
) -> None:
    camera = simulated_camera(fps=10)
    learn = {"quiet_hours": "00:00-24:00", "samples": 20, "every_s": 0.2, "while_motion": True}
    made, again = (
        cameras.config(url=camera.addresses["mjpeg"], scene={"learn": learn}, masks=[RIGHT_HALF], **QUICK)
        for _ in range(2)
    )
    made.settle(place)
    again.settle(place)  # as an agent that was started again reads it
    readings = asyncio.run(cameras.watched(made, lambda found: len(told(found, CLIP)) >= 12))
    more = asyncio.run(cameras.watched(again, lambda found: len(told(found, "brightness")) >= 15))
    clips = [reading for reading in readings + more if reading.metric == CLIP]
    metrics = [
        metric for batch in batches_of_poll("gate", clips, 1, 2, Lane.IMAGE) for metric in decode(batch.payload).metrics
    ]
    frames = [ClipFrame.from_metric(metric) for metric in metrics]
    assert [frame.kind for frame in frames] == [SAMPLE] * 19 + [REQUEST]
    assert [frame.frame_no for frame in frames] == list(range(1, 21))
    assert len({frame.event_id for frame in frames}) == 1
    for frame in frames:
        picture = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture.shape == (96, 96)
        assert np.abs(picture[:, 49:].astype(int) - 128).max() <= 1
        assert picture[:, :47].std() > 3
    assert "20 pictures of 96 x 96 leave the device to learn from, one each 0.2 s" in " ".join(made.explain())


def test_a_model_takes_over_while_the_camera_runs_and_a_bad_one_does_not(
    simulated_camera: Any, cameras: Any, place: Place, tmp_path: Path, put_scene: Any
) -> None:
    camera, directory = simulated_camera(fps=10), tmp_path / "model"
    directory.mkdir()
    made = config(cameras, camera, place, model=directory)

    async def watch() -> None:
        async with made.open(cameras.clock) as source:
            await cameras.polled(source, lambda found: told(found, STATE)[-1:] == ["none"])
            put_scene(directory, "flat", "1")
            first = await cameras.polled(source, lambda found: told(found, STATE)[-1:] == ["ok"])
            assert told(first, VERSION)[-1] == "1"
            assert True in told(first, "scene_anomaly")
            put_scene(directory, "flat", "2", output={"kind": "scene", "usual": 1.0, "threshold": 3.0})
            second = await cameras.polled(
                source, lambda found: told(found, STATE)[-1:] == ["ok"] and len(told(found, "scene_score")) > 2
            )
            assert told(second, VERSION)[-1] == "2"
            put_scene(directory, "small", "3")
            await cameras.polled(source, lambda _: "scene_refused" in source.details())
            after = await cameras.polled(source, lambda found: len(told(found, "scene_score")) > 2)
            assert source.details()["scene_model"] == "2"
            # Of the picture of that frame, whose mean is its brightness: the error is at least that of the mean.
            for score, mean in zip(told(after, "scene_score"), told(after, "brightness"), strict=False):
                assert score >= math.log(((mean - 127.5) ** 2 + 0.25) / 1.25) - 0.1

    asyncio.run(watch())


def test_a_model_that_fails_is_given_up_and_the_one_before_returns(
    simulated_camera: Any, cameras: Any, place: Place, tmp_path: Path, put_scene: Any, caplog: pytest.LogCaptureFixture
) -> None:
    camera, directory = simulated_camera(fps=10), tmp_path / "model"
    put_scene(directory, "flat", "1")
    made = config(cameras, camera, place, model=directory)

    async def watch() -> None:
        async with made.open(cameras.clock) as source:
            await cameras.polled(source, lambda found: told(found, STATE)[-1:] == ["ok"])
            put_scene(directory, "nan-in-the-dark", "2")
            await cameras.polled(source, lambda found: told(found, VERSION)[-1:] == ["2"])
            await asyncio.to_thread(cover, camera)
            found = await cameras.polled(
                source, lambda found: told(found, VERSION)[-1:] == ["1"] and told(found, STATE)[-1:] == ["ok"]
            )
            assert all(value is not None for value in told(found, "brightness")), "the camera itself never failed"

    asyncio.run(watch())
    assert "scene-gate 2 is quarantined until there is another version" in caplog.text


def test_a_model_that_hangs_ends_its_process_and_is_blamed_for_it(
    simulated_camera: Any, cameras: Any, place: Place, tmp_path: Path, put_scene: Any
) -> None:
    camera, directory = simulated_camera(fps=10), tmp_path / "model"
    put_scene(directory, "hangs-in-the-dark", "1")
    made = config(cameras, camera, place, model=directory)

    async def watch() -> str:
        async with made.open(cameras.clock) as source:
            await cameras.polled(source, lambda found: told(found, STATE)[-1:] == ["ok"])
            await asyncio.to_thread(cover, camera)
            lost: str = await cameras.lost(source)
            return lost

    assert "its process has ended" in asyncio.run(watch())
    assert made.scene_models.details()["scene_reason"] == "it ended the camera's process: SIGALRM"
