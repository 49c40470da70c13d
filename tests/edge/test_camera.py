"""The camera source against real MJPEG servers, whole, broken and hung."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from contract.config import ConfigError, parse_config
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.sources import CameraConfig
from edge.sources.camera.child import settings_of
from edge.vision.mjpeg import StreamFault
from edge.vision.stop import Stop
from edge.vision.video import stream_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.reading import Reading
    from edge.sources.camera import CameraSource
    from edge.vision.frame import Frame

T0_MS = 1_700_000_000_000
WAIT_S = 20.0


def picture(seed: int, *, level: int | None = None) -> bytes:
    """A JPEG of noise, or of one grey level."""
    shape = (48, 64)
    grey = (
        np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        if level is None
        else np.full(shape, level, dtype=np.uint8)
    )
    return bytes(cv2.imencode(".jpg", grey)[1])


def part(jpeg: bytes, at_ms: int | None, *, length: int | None = None) -> bytes:
    """One part as mjpg-streamer sends it."""
    stamp = "" if at_ms is None else f"X-Timestamp: {at_ms // 1000}.{at_ms % 1000:03d}\r\n"
    size = len(jpeg) if length is None else length
    return f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n{stamp}\r\n".encode() + jpeg + b"\r\n"


class MjpegServer:
    """Serves each connection by one script after the other; the last one again and again."""

    HEADER = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"

    def __init__(self, *scripts: Callable[[socket.socket], None]) -> None:
        self._scripts = list(scripts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            self._threads.append(threading.Thread(target=self._serve, args=(connection, script)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket, script: Callable[[socket.socket], None]) -> None:
        with connection, suppress(OSError):
            self.requests.append(connection.recv(4096))
            script(connection)

    def close(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


@contextmanager
def serving(*scripts: Callable[[socket.socket], None]) -> Iterator[MjpegServer]:
    server = MjpegServer(*scripts)
    try:
        yield server
    finally:
        server.close()


def sends(*chunks: bytes, then_s: float = 0.0, header: bytes = MjpegServer.HEADER) -> Callable[[socket.socket], None]:
    """A script that sends, then keeps the connection open and silent for a while (or until the client leaves)."""

    def script(connection: socket.socket) -> None:
        for chunk in (header, *chunks):
            connection.sendall(chunk)
        connection.settimeout(then_s or 0.001)
        with suppress(TimeoutError):
            connection.recv(1)

    return script


def camera(server: MjpegServer | int, **options: Any) -> CameraConfig:
    port = server if isinstance(server, int) else server.port
    document = {"type": "camera", "name": "gate", "interval_s": 1, "url": f"http://127.0.0.1:{port}/s.mjpg"}
    return CameraConfig.model_validate(document | options)


def agent_clock() -> int:
    return time.time_ns() // 1_000_000


async def gathered(source: CameraSource, count: int) -> list[Reading]:
    """Polls until so many frames have come."""
    readings: list[Reading] = []
    deadline = time.monotonic() + WAIT_S
    while len({r.sampled_at_ms for r in readings}) < count:
        assert time.monotonic() < deadline, f"only {len(readings)} readings"
        readings += await source.poll()
        await asyncio.sleep(0.02)
    return readings


async def lost(source: CameraSource) -> str:
    """Polls until the camera is lost, and says why."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            await source.poll()
        except SourceError as exc:
            return str(exc)
        await asyncio.sleep(0.02)
    pytest.fail("the camera is not lost")


def values(readings: list[Reading], metric: str) -> dict[int, Any]:
    return {r.sampled_at_ms: r.value for r in readings if r.metric == metric}


async def watched(config: CameraConfig, count: int) -> list[Reading]:
    async with config.open(agent_clock) as source:
        return await gathered(source, count)


def test_first_frame_of_each_slot_is_measured_and_timed_by_the_camera() -> None:
    times = [T0_MS + ms for ms in (250, 500, 999, 1000, 1400, 3001)]
    with serving(sends(*(part(picture(i), at) for i, at in enumerate(times)), then_s=30)) as server:
        readings = asyncio.run(watched(camera(server), 3))
    assert list(values(readings, "brightness")) == [times[0], times[3], times[5]]
    for index, at in ((0, times[0]), (3, times[3]), (5, times[5])):
        grey = cv2.imdecode(np.frombuffer(picture(index), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert values(readings, "brightness")[at] == pytest.approx(float(grey.mean()), rel=1e-12)
        assert values(readings, "sharpness")[at] == pytest.approx(
            float(cv2.Laplacian(grey, cv2.CV_64F).var()), rel=1e-12
        )
    assert all(r.quality == Quality.GOOD for r in readings)


def test_a_frame_of_a_slot_already_kept_is_kept_again_on_a_new_connection() -> None:
    first = sends(part(picture(0), T0_MS), part(picture(1), T0_MS + 10))
    second = sends(part(picture(2), T0_MS + 20), part(picture(3), T0_MS + 30), then_s=30)
    with serving(first, second) as server:
        readings = asyncio.run(watched(camera(server), 2))
    assert list(values(readings, "brightness")) == [T0_MS, T0_MS + 20]


def test_motion_is_the_fraction_that_changed_and_the_first_frame_has_none() -> None:
    third = np.full((48, 64), 90, dtype=np.uint8)
    third[:16] = 250
    pictures = [picture(0, level=90), picture(0, level=90), bytes(cv2.imencode(".jpg", third)[1])]
    chunks = [part(jpeg, T0_MS + 1000 * i) for i, jpeg in enumerate(pictures)]
    with serving(sends(*chunks, then_s=30)) as server:
        motion = values(asyncio.run(watched(camera(server), 3)), "motion")
    assert list(motion) == [T0_MS + 1000, T0_MS + 2000]
    assert motion[T0_MS + 1000] == 0.0
    assert motion[T0_MS + 2000] == pytest.approx(1 / 3, abs=0.1)


def test_a_covered_lens_is_dark_and_flat() -> None:
    chunks = (part(picture(0), T0_MS), part(picture(0, level=3), T0_MS + 1000))
    with serving(sends(*chunks, then_s=30)) as server:
        readings = asyncio.run(watched(camera(server), 2))
    assert values(readings, "brightness")[T0_MS + 1000] == pytest.approx(3.0)
    assert values(readings, "sharpness")[T0_MS + 1000] == 0.0


def test_every_kept_frame_comes_out_of_one_late_poll() -> None:
    chunks = [part(picture(i), T0_MS + 1000 * i) for i in range(40)]

    async def polled_late(config: CameraConfig) -> list[Reading]:
        async with config.open(agent_clock) as source:
            readings = await gathered(source, 1)
            deadline = time.monotonic() + WAIT_S
            while source._waiting.qsize() + len(values(readings, "brightness")) < 40:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            return readings + await source.poll()

    with serving(sends(*chunks, then_s=30)) as server:
        readings = asyncio.run(polled_late(camera(server)))
    assert list(values(readings, "brightness")) == [T0_MS + 1000 * i for i in range(40)]


def test_what_arrived_before_the_close_is_what_remains() -> None:
    more = threading.Event()
    sent = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.sendall(MjpegServer.HEADER + part(picture(0), T0_MS))
        more.wait(WAIT_S)
        connection.sendall(part(picture(1), T0_MS + 1000))
        sent.set()
        connection.settimeout(WAIT_S)
        connection.recv(1)

    async def closed_early(config: CameraConfig) -> list[Reading]:
        async with config.open(agent_clock) as source:
            readings = await gathered(source, 1)
            more.set()
            assert await asyncio.to_thread(sent.wait, WAIT_S)
        readings += source.remaining()
        assert source.remaining() == []
        return readings

    with serving(script) as server:
        readings = asyncio.run(closed_early(camera(server)))
    assert list(values(readings, "brightness")) == [T0_MS, T0_MS + 1000]


def test_without_a_timestamp_the_time_is_that_of_the_arrival_on_the_agents_clock() -> None:
    with serving(sends(part(picture(0), None), then_s=30)) as server:

        async def first(config: CameraConfig) -> tuple[int, list[Reading], int]:
            started = agent_clock()
            async with config.open(lambda: agent_clock() - 3_600_000) as source:
                readings = await gathered(source, 1)
            return started, readings, agent_clock()

        started, readings, ended = asyncio.run(first(camera(server)))
    assert started - 3_600_000 <= readings[0].sampled_at_ms <= ended - 3_600_000


@pytest.mark.parametrize(
    ("body", "stamp"),
    [(picture(0)[:-40], T0_MS), (b"\xff\xd8 no image \xff\xd9", T0_MS), (picture(0), 5_000)],
    ids=["truncated", "garbage", "clock not set"],
)
def test_a_frame_that_cannot_be_used_has_bad_quality(body: bytes, stamp: int) -> None:
    chunks = (part(body, stamp), part(picture(1), T0_MS + 5000))
    with serving(sends(*chunks, then_s=30)) as server:
        readings = asyncio.run(watched(camera(server), 2))
    names = ("brightness", "sharpness", "motion", "motion_active", "scene_score")
    assert [(r.metric, r.value, r.quality) for r in readings[:5]] == [(name, None, Quality.BAD) for name in names]
    assert all(r.sampled_at_ms > 1_600_000_000_000 for r in readings)
    assert readings[5].quality == Quality.GOOD


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (sends(part(picture(0), T0_MS, length=10**6)), "ended in the middle of a frame"),
        (sends(part(picture(0), T0_MS, length=10**8), then_s=30), "max_frame_bytes"),
        (sends(header=b"HTTP/1.0 503 Busy\r\n\r\n"), "HTTP 503"),
        (sends(header=b"HTTP/1.0 500 " + b"\xff" * 60_000 + b"\r\n\r\n"), "HTTP 500"),
        (sends(header=b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"), "text/html is not"),
        (sends(b"x" * 100_000, then_s=30), "no '--frame'"),
    ],
    ids=["cut", "oversize", "refused", "verbose", "no stream", "no boundary"],
)
def test_a_broken_stream_is_told_and_opened_again(
    broken: Callable[[socket.socket], None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(broken, sends(part(picture(1), T0_MS), then_s=30)) as server, caplog.at_level("INFO"):
        readings = asyncio.run(watched(camera(server), 1))
    assert list(values(readings, "brightness")) == [T0_MS]
    assert [r.levelname for r in caplog.records if reason in r.getMessage()] == ["WARNING"]
    assert "frames come again" in caplog.text


def test_a_camera_that_is_not_there_is_lost_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def absent(config: CameraConfig) -> str:
        async with config.open(agent_clock) as source:
            return await lost(source)

    assert "ConnectionRefusedError" in asyncio.run(absent(camera(port, lost_after_s=1)))


def test_a_killed_process_is_told_and_leaves_nothing_behind() -> None:
    async def killed(config: CameraConfig) -> str:
        async with config.open(agent_clock) as source:
            await gathered(source, 1)
            os.kill(source._process.pid, signal.SIGKILL)
            return await lost(source)

    with serving(sends(part(picture(0), T0_MS), then_s=60)) as server:
        assert "its process has ended" in asyncio.run(killed(camera(server)))


def test_a_process_that_hangs_is_given_up_and_killed() -> None:
    async def stopped(config: CameraConfig) -> tuple[str, int, float]:
        async with config.open(agent_clock) as source:
            await gathered(source, 1)
            os.kill(source._process.pid, signal.SIGSTOP)
            message = await lost(source)
            closing = time.monotonic()
        return message, source._process.pid, time.monotonic() - closing

    with serving(sends(part(picture(0), T0_MS), then_s=60)) as server:
        message, pid, closing_s = asyncio.run(stopped(camera(server, lost_after_s=1)))
    assert "no frame for" in message
    assert closing_s < 10, "the second that it has, and a busy machine"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_frames_that_ffmpeg_reads_are_measured_by_their_arrival() -> None:
    # RTSP goes through FFmpeg, and so does this stream when it is asked to.
    chunks = [part(picture(0, level=90), None) for _ in range(30)]
    with serving(sends(*chunks, then_s=0.5)) as server:
        frames = stream_frames(settings_of(camera(server), None), Stop())
        seen: list[tuple[Frame, float]] = []
        started_s = time.monotonic()
        with pytest.raises(StreamFault, match="ended"):
            seen.extend((frame, float(frame.picture.grey().mean())) for frame in frames)
    assert seen
    for frame, brightness in seen:
        assert brightness == pytest.approx(90, abs=2)
        assert frame.sampled_at_ms is None
        assert started_s < frame.arrived_s < time.monotonic()


def test_an_rtsp_server_that_never_answers_is_lost() -> None:
    async def silent(config: CameraConfig) -> str:
        async with config.open(agent_clock) as source:
            return await lost(source)

    with serving(sends(header=b"", then_s=60)) as server:
        config = camera(server, url=f"rtsp://127.0.0.1:{server.port}/live", lost_after_s=1)
        assert "no frame for" in asyncio.run(silent(config))
    assert server.requests[0].startswith(b"OPTIONS rtsp://")


def test_the_process_dies_with_the_agent() -> None:
    code = (
        "import asyncio, sys, time\n"
        "from edge.sources import CameraConfig\n"
        "async def main():\n"
        "    async with CameraConfig.model_validate_json(sys.argv[1]).open(lambda: 0) as source:\n"
        "        print(source._process.pid, flush=True)\n"
        "        time.sleep(60)\n"  # not even the event loop runs
        "asyncio.run(main())\n"
    )
    with serving(sends(part(picture(0), T0_MS), then_s=60)) as server:
        config = camera(server).model_dump_json()
        agent = subprocess.Popen([sys.executable, "-c", code, config], stdout=subprocess.PIPE, text=True)
        assert agent.stdout is not None
        with agent.stdout:
            child = int(agent.stdout.readline())
        deadline = time.monotonic() + WAIT_S
        while not server.requests:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        agent.kill()
        agent.wait()
        while is_running(child):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_password_goes_to_the_camera_and_not_to_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_PASSWORD", "s3cret")

    async def command_line(config: CameraConfig) -> bytes:
        async with config.open(agent_clock) as source:
            await gathered(source, 1)
            return await asyncio.to_thread(Path(f"/proc/{source._process.pid}/cmdline").read_bytes)

    with serving(sends(part(picture(0), T0_MS), then_s=30)) as server:
        shown = asyncio.run(command_line(camera(server, username="admin", password_env="GATE_PASSWORD")))
    assert b"s3cret" not in shown
    assert b"Authorization: Basic YWRtaW46czNjcmV0" in server.requests[0]


def test_a_password_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATE_PASSWORD", raising=False)

    async def opened() -> None:
        async with camera(1, username="admin", password_env="GATE_PASSWORD").open(agent_clock):
            pytest.fail("opened")

    with pytest.raises(SourceError, match="GATE_PASSWORD"):
        asyncio.run(opened())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"url": "ftp://camera/x"}, "SCHEME"),
        ({"url": "http://admin:pw@camera/x"}, "do not stand in the URL"),
        ({"password_env": "X"}, "needs a user"),
        ({"interval_s": 0}, "interval_s"),
        ({"max_frame_bytes": 10}, "max_frame_bytes"),
    ],
)
def test_wrong_configurations(change: dict[str, Any], complaint: str) -> None:
    document = {"type": "camera", "name": "gate", "interval_s": 1, "url": "http://camera/x"} | change
    with pytest.raises(ConfigError, match=complaint):
        parse_config(document, CameraConfig, "edge.yaml")


def test_the_child_tells_lines_of_json() -> None:
    child = subprocess.run(
        [sys.executable, "-m", "edge.vision.process"],
        input=settings_of(camera(9), None).to_json(),
        capture_output=True,
        timeout=WAIT_S,
        check=True,
    )
    assert json.loads(child.stdout.splitlines()[0]) == {"ready": True}
