"""Cameras that run in a process of their own, so that they can be stopped in the middle of a frame."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import yaml

from edge.errors import SourceError
from edge.models import InferenceConfig
from edge.sources import CameraConfig
from edge.sources.base import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from edge.reading import Reading
    from edge.sources.camera import CameraSource

WAIT_S = 30.0


@dataclass(frozen=True)
class SimulatedCamera:
    """`python -m simulators serve`, with one camera."""

    process: subprocess.Popen[bytes]
    addresses: dict[str, str]
    ledger: Path


@pytest.fixture
def simulated_camera(tmp_path: Path) -> Iterator[Callable[..., SimulatedCamera]]:
    """Starts one; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**keys: Any) -> SimulatedCamera:
        scenario, addresses = tmp_path / "scenario.yaml", tmp_path / "addresses.json"
        simulator = {"type": "camera", "name": "gate", "seed": 7} | keys
        scenario.write_text(yaml.safe_dump({"ledger_dir": str(tmp_path / "ledgers"), "simulators": [simulator]}))
        command = [sys.executable, "-m", "simulators", "serve", str(scenario), "--addresses", str(addresses)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        started.append(process)
        deadline = time.monotonic() + WAIT_S
        while not addresses.exists():
            assert process.poll() is None, "the simulator ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return SimulatedCamera(process, json.loads(addresses.read_text())["gate"], tmp_path / "ledgers" / "gate.jsonl")

    yield start
    for process in started:
        process.kill()
        process.wait()


class Cameras:
    """What every test does with a camera."""

    @staticmethod
    def config(trusted: dict[str, Any] | None = None, **options: Any) -> CameraConfig:
        """A configuration; `trusted` keys pass no validation, for bounds that no sane one has."""
        document = {"type": "camera", "name": "gate", "interval_s": 1} | options
        return CameraConfig.model_validate(document).model_copy(update=trusted or {})

    @staticmethod
    def clock() -> int:
        """The agent's clock."""
        return time.time_ns() // 1_000_000

    @staticmethod
    async def polled(source: CameraSource, condition: Callable[[list[Reading]], bool]) -> list[Reading]:
        """Polls until a condition holds of all readings so far, and gives them."""
        readings: list[Reading] = []
        deadline = time.monotonic() + WAIT_S
        while not condition(readings):
            assert time.monotonic() < deadline, f"not with {readings[-10:]}"
            readings += await source.poll()
            await asyncio.sleep(0.02)
        return readings

    @staticmethod
    async def lost(source: CameraSource) -> str:
        """Polls until the source fails, and says why."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            try:
                await source.poll()
            except SourceError as exc:
                return str(exc)
            await asyncio.sleep(0.02)
        pytest.fail("the camera is not lost")

    async def watched(self, config: CameraConfig, condition: Callable[[list[Reading]], bool]) -> list[Reading]:
        """The readings of a camera that is opened for them alone."""
        async with config.open(self.clock) as source:
            return await self.polled(source, condition)

    async def failing(self, config: CameraConfig) -> str:
        """Why a camera is lost that is opened for that alone."""
        async with config.open(self.clock) as source:
            return await self.lost(source)


@pytest.fixture(scope="session")
def cameras() -> Cameras:
    """The same for all."""
    return Cameras()


@pytest.fixture(scope="session")
def is_running() -> Callable[[int], bool]:
    """Whether a process exists and is more than a zombie."""

    def running(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    return running


class Scripted:
    """A TCP server that answers connections by one script after the other, the last again and again, in threads."""

    def __init__(self, *scripts: Callable[[socket.socket], None]) -> None:
        self._scripts = list(scripts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._connections: list[socket.socket] = []
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._connections.append(connection)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            self._threads.append(threading.Thread(target=self._serve, args=(connection, script)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket, script: Callable[[socket.socket], None]) -> None:
        with suppress(OSError):
            script(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def scripted() -> Callable[..., AbstractContextManager[Scripted]]:
    """Serves by scripts inside a context."""

    @contextmanager
    def serving(*scripts: Callable[[socket.socket], None]) -> Iterator[Scripted]:
        server = Scripted(*scripts)
        try:
            yield server
        finally:
            server.close()

    return serving


class Mjpeg:
    """The pieces of an MJPEG stream."""

    HEADER = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"

    @staticmethod
    def jpeg(seed: int = 0, width: int = 160, height: int = 120) -> bytes:
        """A JPEG of coarse noise, which has contrast and edges."""
        coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
        return bytes(cv2.imencode(".jpg", picture)[1])

    @staticmethod
    def grey(seed: int = 0, *, level: int | None = None) -> bytes:
        """A small JPEG of fine noise, or of one grey level."""
        noise = np.random.default_rng(seed).integers(0, 256, (48, 64), dtype=np.uint8)
        return bytes(cv2.imencode(".jpg", noise if level is None else np.full_like(noise, level))[1])

    @staticmethod
    def part(body: bytes, at_ms: int | None = None, *, length: int | None = None) -> bytes:
        """A frame as a part of the stream, of the time given (ms) or without one; `length` is what it says it has."""
        stamp = "" if at_ms is None else f"X-Timestamp: {at_ms / 1000:.3f}\r\n"
        size = len(body) if length is None else length
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n{stamp}\r\n"
        return head.encode() + body + b"\r\n"

    @staticmethod
    def sends(
        *chunks: bytes, then_s: float = 0.001, header: bytes = HEADER, asked: list[bytes] | None = None
    ) -> Callable[[socket.socket], None]:
        """A script that sends, is silent for a while (or until the client leaves), and hangs up."""

        def script(connection: socket.socket) -> None:
            with connection:
                request = connection.recv(4096)
                if asked is not None:
                    asked.append(request)
                for chunk in (header, *chunks):
                    connection.sendall(chunk)
                connection.settimeout(then_s)
                with suppress(TimeoutError):
                    connection.recv(1)

        return script


@pytest.fixture(scope="session")
def mjpeg() -> Mjpeg:
    """The same for all."""
    return Mjpeg()


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A video of so many frames in which a box walks to the right; its suffix says the container."""

    def make(frames: int, suffix: str = ".avi", fps: float = 10.0) -> Path:
        path = tmp_path_factory.mktemp("video") / f"yard{suffix}"
        codec = cv2.VideoWriter.fourcc(*("mpg2" if suffix == ".ts" else "MJPG"))
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, (160, 120))
        assert writer.isOpened()
        scene = np.kron(np.random.default_rng(1).integers(60, 120, (12, 16, 1), np.uint8), np.ones((10, 10, 3)))
        for n in range(frames):
            picture = scene.astype(np.uint8)
            left = n * 4 % 140
            picture[50:80, left : left + 20] = 250
            writer.write(picture)
        writer.release()
        assert path.stat().st_size > 0
        return path

    return make


NETS = Path(__file__).parent / "nets"
SCENE: dict[str, Any] = {
    "format": 1,
    "name": "scene-gate",
    "camera": "demo/edge-1/gate",
    "quiet_hours": "00:00-24:00",
    "side": 96,
    # What `flat` makes of a covered lens, so that all else is an anomaly.
    "output": {"kind": "scene", "usual": 14_000.0, "threshold": 0.4},
}


@pytest.fixture(scope="session")
def put_scene() -> Callable[..., None]:
    """Puts a model into a directory, as a version is put there: the manifest last."""

    def put(directory: Path, net: str, version: str, **changes: Any) -> None:
        content = net.encode() if net == "no model" else (NETS / f"{net}.tflite").read_bytes()
        directory.mkdir(exist_ok=True)
        file = {"form": "float32", "file": f"{version}.tflite", "sha256": hashlib.sha256(content).hexdigest()}
        document = SCENE | {"version": version, "files": [file | {"size_bytes": len(content)}]} | changes
        (directory / file["file"]).write_bytes(content)
        (directory / "manifest.new").write_text(json.dumps(document))
        (directory / "manifest.new").replace(directory / "manifest.json")

    return put


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An agent's, which looks at its models' directories all the time."""
    return Place("demo", "edge-1", tmp_path / "state", InferenceConfig(watch_s=0.1, timeout_s=30))
