"""Clips end to end: from the simulated camera to the metrics on the wire; and none, where the config has none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np

from contract.clips import CLIP, ClipFrame
from contract.sparkplug import decode
from edge.batch import batches_of_poll
from edge.lane import Lane
from simulators.ledger import Incident, read_ledger

if TYPE_CHECKING:
    from edge.reading import Reading

YARD = {"name": "yard", "polygon": [[0, 0.68], [1, 0.68], [1, 1], [0, 1]], "min_fraction": 0.01}
ROAD = [[0, 0], [1, 0], [1, 0.66], [0, 0.66]]


def shots(readings: list[Reading]) -> list[Reading]:
    return [reading for reading in readings if reading.metric == CLIP]


def told(readings: list[Reading], metric: str, value: object) -> list[Reading]:
    return [reading for reading in readings if reading.metric == metric and reading.value == value]


async def with_incident(cameras: Any, config: Any, camera: Any, kind: str, until: Any) -> list[Reading]:
    async with config.open(cameras.clock) as source:
        readings: list[Reading] = await cameras.polled(
            source, lambda found: sum(r.metric == "brightness" for r in found) >= 4
        )
        answer = await asyncio.to_thread(
            httpx.post, f"{camera.addresses['url']}/incidents?kind={kind}&duration_s=8", timeout=5
        )
        assert answer.status_code == 201
        found: list[Reading] = await cameras.polled(source, until)
        return readings + found


def test_an_intruder_makes_a_clip_of_bounded_frames_with_the_ledgers_times(simulated_camera: Any, cameras: Any) -> None:
    camera = simulated_camera(fps=10)
    clips = {
        "triggers": ["motion"],
        "before": 2,
        "during": 3,
        "after": 0,
        "spacing_s": 0.2,
        "max_width": 160,
        "max_frame_bytes": 4000,
    }
    options = {"interval_s": 0.2, "max_fps": 5, "zones": [YARD], "masks": [ROAD], "clips": clips}
    # However slow this machine, the motion lasts for the whole clip: what follows an incident is in test_clip.
    config = cameras.config(url=camera.addresses["mjpeg"], motion={"min_s": 0.2, "clear_s": 20}, **options)
    readings = asyncio.run(with_incident(cameras, config, camera, "intrusion", lambda found: len(shots(found)) >= 5))
    metrics = [metric for batch in _image_batches(readings) for metric in decode(batch).metrics]
    frames = [ClipFrame.from_metric(metric) for metric in metrics]
    assert [(frame.frame_no, frame.frames) for frame in frames] == [(n, 5) for n in range(1, 6)]
    assert len({frame.event_id for frame in frames}) == 1
    assert frames[0].kind in {"motion", "yard/motion"}
    for frame in frames:
        assert len(frame.jpeg) <= 4000
        assert cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (120, 160, 3)
    incident = next(entry for entry in read_ledger(camera.ledger) if isinstance(entry, Incident))
    times = [metric.timestamp_ms for metric in metrics]
    assert times == sorted(times)
    assert times[0] <= frames[0].started_at_ms == times[2]
    assert incident.from_ms < frames[0].started_at_ms < incident.from_ms + 8000
    assert told(readings, "yard/motion_active", value=True)


def _image_batches(readings: list[Reading]) -> list[bytes]:
    found = batches_of_poll("gate", shots(readings), 1, 2, Lane.IMAGE)
    assert len(found) == len(shots(readings)), "a batch each: together they would be too large for broker and bridge"
    return [batch.payload for batch in found]


def test_a_covered_lens_is_told_at_once_and_no_picture_leaves_without_leave(
    simulated_camera: Any, cameras: Any
) -> None:
    camera = simulated_camera(fps=10)
    config = cameras.config(
        url=camera.addresses["mjpeg"],
        interval_s=60,
        max_fps=10,
        tamper={"after_s": 0.5},
        lost_after_s=20,
    )

    async def watch() -> list[Reading]:
        async with config.open(cameras.clock) as source:
            lines: list[dict[str, Any]] = []
            hear = source._hear

            async def note(line: dict[str, Any]) -> None:
                lines.append(line)
                await hear(line)

            source._hear = note
            # Ten frames, of which the reference is learned.
            found: list[Reading] = await cameras.polled(source, lambda _: len(lines) > 10)
            assert len(told(found, "tamper", "none")) == 1
            await asyncio.to_thread(
                httpx.post, f"{camera.addresses['url']}/incidents?kind=lens_covered&duration_s=20", timeout=5
            )
            found += await cameras.polled(source, lambda found: len(told(found, "tamper", "covered")) > 0)
            assert max(len(repr(line)) for line in lines) < 1000, "not even the agent is given a picture"
            return found

    readings = asyncio.run(watch())
    (covered,) = told(readings, "tamper", "covered")
    measured = {reading.sampled_at_ms for reading in readings if reading.metric == "brightness"}
    assert covered.sampled_at_ms not in measured, "between two measured frames, which are a minute apart"
    assert shots(readings) == []
    assert CLIP not in {metric.name for metric in config.metrics()}
    assert "no picture leaves the device (no clips)" in config.explain()
