"""RTSP through FFmpeg: every frame decoded, or key frames alone. Needs GStreamer, as the simulator does."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from edge.sources.camera.child import settings_of
from edge.vision.stop import Stop
from edge.vision.video import stream_frames
from simulators.camera import rtsp

if TYPE_CHECKING:
    from edge.reading import Reading
    from edge.vision.frame import Frame


@pytest.fixture(scope="module")
def gstreamer() -> None:
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        done = subprocess.run([rtsp.SYSTEM_PYTHON, "-I", "-c", check], capture_output=True, check=False)
    except OSError as exc:
        pytest.skip(str(exc))
    if done.returncode:
        pytest.skip("GStreamer is not installed")


def frames_of(config: Any, seconds: float) -> list[tuple[Frame, float]]:
    """Frames as the camera's process has them, with their brightness, for so long after the first."""
    stop = Stop()
    found: list[tuple[Frame, float]] = []
    for frame in stream_frames(settings_of(config, None), stop):
        found.append((frame, float(frame.picture.grey().mean())))
        if frame.arrived_s - found[0][0].arrived_s > seconds:
            stop.request()
    return found


@pytest.mark.usefixtures("gstreamer")
def test_key_frames_alone_come_as_the_encoder_makes_them_and_show_the_same(
    simulated_camera: Any, cameras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    # The simulator's encoder makes a key frame a second.
    url = simulated_camera(fps=10, rtsp=True).addresses["rtsp"]
    every = frames_of(cameras.config(url=url, lost_after_s=10), 2.5)
    keys = frames_of(cameras.config(url=url, lost_after_s=10, keyframes_only=True), 2.5)
    assert {frame.picture.grey().shape for frame, _ in keys} == {(240, 320)}
    assert keys[0][1] == pytest.approx(every[0][1], abs=8)
    # What was read already to find out what the stream is comes at once.
    assert 2 <= len(keys) <= 8
    assert len(every) >= 20


@pytest.mark.usefixtures("gstreamer")
def test_a_camera_watched_by_its_key_frames_is_measured(simulated_camera: Any, cameras: Any) -> None:
    url = simulated_camera(fps=10, rtsp=True).addresses["rtsp"]
    config = cameras.config(url=url, interval_s=0.5, keyframes_only=True, lost_after_s=10)

    def enough(readings: list[Reading]) -> bool:
        return sum(r.metric == "brightness" and r.value is not None for r in readings) >= 3

    readings = asyncio.run(cameras.watched(config, enough))
    assert [r.value for r in readings if r.metric == "tamper"] == ["none"]
