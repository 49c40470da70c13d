"""RTSP through FFmpeg by its key frames alone. Needs GStreamer, as the simulator does."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import pytest

from edge.sources.camera.child import settings_of
from edge.vision.stop import Stop
from edge.vision.video import stream_frames
from simulators.camera import rtsp

if TYPE_CHECKING:
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


def frames_of(config: Any, count: int) -> list[tuple[Frame, float]]:
    """So many frames as the camera's process has them, with their brightness."""
    stop = Stop()
    found: list[tuple[Frame, float]] = []
    for frame in stream_frames(settings_of(config, None), stop):
        found.append((frame, float(frame.picture.grey().mean())))
        if len(found) == count:
            stop.request()
    return found


@pytest.mark.usefixtures("gstreamer")
def test_key_frames_alone_come_as_the_encoder_makes_them_and_show_the_same(
    simulated_camera: Any, cameras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    # Of ten frames a second the simulator's encoder makes one a key frame.
    camera = simulated_camera(fps=10, rtsp=True)
    keys = frames_of(cameras.config(url=camera.addresses["rtsp"], lost_after_s=10, keyframes_only=True), 3)
    snapshot = np.frombuffer(httpx.get(camera.addresses["snapshot"]).content, np.uint8)
    # What was read already to find out what the stream is comes at once.
    assert 2 <= len(keys) <= 10
    for frame, brightness in keys:
        assert frame.picture.grey().shape == (240, 320)
        assert brightness == pytest.approx(float(cv2.imdecode(snapshot, cv2.IMREAD_GRAYSCALE).mean()), abs=8)
