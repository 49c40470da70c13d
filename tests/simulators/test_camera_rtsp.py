from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import psutil
import pytest

from simulators.camera import rtsp
from simulators.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Callable


def _gstreamer_is_missing() -> str | None:
    check = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0');"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
        "assert Gst.ElementFactory.find('x264enc'), 'no x264enc'"
    )
    try:
        done = subprocess.run([rtsp.SYSTEM_PYTHON, "-I", "-c", check], capture_output=True, text=True, check=False)
    except OSError as exc:
        return str(exc)
    return None if done.returncode == 0 else f"GStreamer is not installed: {done.stderr.strip().splitlines()[-1]}"


@pytest.fixture(scope="module")
def gstreamer() -> None:
    missing = _gstreamer_is_missing()
    if missing:
        pytest.skip(missing)


@pytest.mark.usefixtures("gstreamer")
def test_rtsp_shows_the_same_yard_again_and_again(start_simulator: Callable[..., Any]) -> None:
    camera = start_simulator(type="camera", name="gate", seed=7, rtsp=True)
    snapshot = httpx.get(camera.addresses["snapshot"]).content
    expected = cv2.imdecode(np.frombuffer(snapshot, np.uint8), cv2.IMREAD_COLOR)
    # The second time after its last client has gone.
    for frames in (15, 1):
        capture = cv2.VideoCapture(camera.addresses["rtsp"], cv2.CAP_FFMPEG)
        try:
            for _ in range(frames):
                read, picture = capture.read()
                assert read
        finally:
            capture.release()
        assert picture.shape == (240, 320, 3)
        assert cv2.absdiff(picture, expected).mean() < 12
    # RTSP carries no time of the camera's own, so nothing of it is in the ledger.
    assert camera.served() == []


@pytest.mark.usefixtures("gstreamer")
def test_rtsp_comes_back_at_its_port_when_its_process_is_killed(start_simulator: Callable[..., Any]) -> None:
    camera = start_simulator(type="camera", name="gate", rtsp=True)
    (server,) = (
        child
        for child in psutil.Process().children()
        if child.cmdline()[2:3] == [rtsp.__file__.replace("rtsp.py", "rtsp_server.py")]
    )
    server.kill()

    def plays(_: Any) -> bool:
        capture = cv2.VideoCapture(camera.addresses["rtsp"], cv2.CAP_FFMPEG)
        try:
            return bool(capture.read()[0])
        finally:
            capture.release()

    camera.wait_for("RTSP again", plays)
    assert httpx.get(camera.addresses["snapshot"]).status_code == 200


@pytest.mark.usefixtures("gstreamer")
def test_a_taken_rtsp_port_is_named(start_simulator: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SimulatorError, match=f"gate: no RTSP: cannot listen at 127.0.0.1:{port}"):
            start_simulator(type="camera", name="gate", rtsp=True, rtsp_port=port)


def test_without_gstreamer_the_packages_to_install_are_named(
    start_simulator: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    bare = tmp_path / "python3"
    bare.write_text('#!/bin/sh\necho \'{"error": "GStreamer is not here"}\'\nexit 1\n')
    bare.chmod(0o755)
    for python, complaint in ((str(bare), "GStreamer is not here"), (str(tmp_path / "none"), "No such file")):
        monkeypatch.setattr(rtsp, "SYSTEM_PYTHON", python)
        with pytest.raises(SimulatorError, match="apt-get install python3-gi") as caught:
            start_simulator(type="camera", name="gate", rtsp=True)
        assert complaint in str(caught.value)
