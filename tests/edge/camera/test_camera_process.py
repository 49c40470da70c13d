"""A camera's process: what it is told, how it ends, and what is told of a camera that cannot be had."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edge.errors import SourceError
from edge.sources.camera.child import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.sources import CameraConfig

WAIT_S = 30.0


class Camera:
    """One that sends a picture, and what it was asked."""

    def __init__(self, cameras: Any, port: int, asked: list[bytes]) -> None:
        self.asked = asked
        self._cameras = cameras
        self._port = port

    def config(self, **options: Any) -> CameraConfig:
        config: CameraConfig = self._cameras.config(url=f"http://127.0.0.1:{self._port}/s.mjpg", **options)
        return config


@pytest.fixture
def camera(cameras: Any, mjpeg: Any, scripted: Any) -> Iterator[Camera]:
    asked: list[bytes] = []
    with scripted(mjpeg.sends(mjpeg.part(mjpeg.grey(), 1_700_000_000_000), then_s=60, asked=asked)) as server:
        yield Camera(cameras, server.port, asked)


def test_a_camera_that_is_not_there_is_lost_with_the_reason(cameras: Any, closed_port: int) -> None:
    config = cameras.config(url=f"http://127.0.0.1:{closed_port}/s.mjpg", lost_after_s=1)
    assert "ConnectionRefusedError" in asyncio.run(cameras.failing(config))


def test_an_rtsp_server_that_never_answers_is_lost(cameras: Any, mjpeg: Any, scripted: Any) -> None:
    asked: list[bytes] = []
    with scripted(mjpeg.sends(header=b"", then_s=60, asked=asked)) as server:
        config = cameras.config(url=f"rtsp://127.0.0.1:{server.port}/live", lost_after_s=1)
        assert "no frame for" in asyncio.run(cameras.failing(config))
    assert asked[0].startswith(b"OPTIONS rtsp://")


def test_a_killed_process_is_told_and_leaves_nothing_behind(cameras: Any, camera: Camera) -> None:
    async def killed() -> str:
        async with camera.config().open(cameras.clock) as source:
            await cameras.polled(source, bool)
            os.kill(source._process.pid, signal.SIGKILL)
            return str(await cameras.lost(source))

    assert "its process has ended" in asyncio.run(killed())


def test_a_process_that_hangs_is_given_up_and_killed(cameras: Any, camera: Camera) -> None:
    async def stopped() -> tuple[str, int, float]:
        async with camera.config(lost_after_s=1).open(cameras.clock) as source:
            await cameras.polled(source, bool)
            os.kill(source._process.pid, signal.SIGSTOP)
            message = await cameras.lost(source)
            closing = time.monotonic()
        return message, source._process.pid, time.monotonic() - closing

    message, pid, closing_s = asyncio.run(stopped())
    assert "no frame for" in message
    assert closing_s < 10, "the second that it has, and a busy machine"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_process_dies_with_the_agent(camera: Camera, is_running: Callable[[int], bool]) -> None:
    code = (
        "import asyncio, sys, time\n"
        "from edge.sources import CameraConfig\n"
        "async def main():\n"
        "    async with CameraConfig.model_validate_json(sys.argv[1]).open(lambda: 0) as source:\n"
        "        print(source._process.pid, flush=True)\n"
        "        time.sleep(60)\n"  # not even the event loop runs
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, camera.config().model_dump_json()]
    agent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    with agent.stdout:
        child = int(agent.stdout.readline())
    deadline = time.monotonic() + WAIT_S
    while not camera.asked:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    agent.kill()
    agent.wait()
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_password_goes_to_the_camera_and_not_to_the_command_line(
    cameras: Any, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE_PASSWORD", "s3cret")

    async def command_line() -> bytes:
        async with camera.config(username="admin", password_env="GATE_PASSWORD").open(cameras.clock) as source:
            await cameras.polled(source, bool)
            return await asyncio.to_thread(Path(f"/proc/{source._process.pid}/cmdline").read_bytes)

    assert b"s3cret" not in asyncio.run(command_line())
    assert b"Authorization: Basic YWRtaW46czNjcmV0" in camera.asked[0]


def test_a_password_that_is_not_there_is_an_error(
    cameras: Any, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GATE_PASSWORD", raising=False)

    async def opened() -> None:
        async with camera.config(username="admin", password_env="GATE_PASSWORD").open(cameras.clock):
            pytest.fail("opened")

    with pytest.raises(SourceError, match="GATE_PASSWORD"):
        asyncio.run(opened())


def test_the_child_tells_lines_of_json(camera: Camera) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "edge.vision.process"],
        input=settings_of(camera.config(), None).to_json(),
        capture_output=True,
        timeout=WAIT_S,
        check=True,
    )
    assert json.loads(child.stdout.splitlines()[0]) == {"ready": True}
