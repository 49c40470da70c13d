"""A camera, watched by a process of its own that can be killed: brightness, sharpness and motion of its frames.

The first frame of every slot of `interval_s` is measured. The time of its readings is the camera's own, where
the stream carries one (X-Timestamp), else that of its arrival.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from contract.config import Credentials
from contract.datatypes import DataType
from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.reading import MetricInfo, Reading
from edge.sources.base import Source, SourceConfig
from edge.sources.secret import needed_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edge.sources.base import Clock

logger = logging.getLogger(__name__)

_METRICS: Final = (
    MetricInfo("brightness", DataType.DOUBLE, None, "mean grey level, 0 to 255"),
    MetricInfo("sharpness", DataType.DOUBLE, None, "variance of the Laplacian of the grey image"),
    MetricInfo("motion", DataType.DOUBLE, None, "fraction of pixels that changed since the frame before, 0 to 1"),
)
_SCHEMES: Final = frozenset({"http", "https", "rtsp", "rtsps"})
_START_S: Final = 20.0  # for the child to load OpenCV on a busy Pi
_CLOSE_S: Final = 1.0  # for the child to tell what it still has
_MAX_WAITING_FRAMES: Final = 10_000
_LINE_BYTES: Final = 64 * 1024
_CODE: Final = Path(__file__).parents[3]
_CHILD_ENVIRONMENT: Final = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp",  # UDP loses packets without a word
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_LOG_LEVEL": "OFF",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 26),  # a small JPEG can announce a giant image
}


class CameraConfig(SourceConfig, Credentials):
    """One camera."""

    type: Literal["camera"] = Field(description="kind of source")
    url: str = Field(description="MJPEG over http(s)://, or rtsp(s)://; username and password stand apart")
    max_frame_bytes: int = Field(
        default=4 << 20, ge=1024, le=64 << 20, description="bytes of one JPEG; more is a fault"
    )
    lost_after_s: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="seconds without a frame; without it the greater of 3 intervals and 5 s",
    )

    @field_validator("url")
    @classmethod
    def _url_is_of_a_stream(cls, url: str) -> str:
        address = urlsplit(url)
        if address.scheme not in _SCHEMES or not address.hostname:
            raise ValueError(f"allowed is SCHEME://HOST[:PORT]/PATH, SCHEME one of {', '.join(sorted(_SCHEMES))}")
        if "@" in address.netloc:
            raise ValueError("user and password do not stand in the URL: see username, password_env, password_file")
        return url

    @property
    def patience_s(self) -> float:
        """Seconds without a frame after which the camera is lost."""
        return self.lost_after_s or max(3 * self.interval_s, 5.0)

    def metrics(self) -> list[MetricInfo]:
        """What is measured of a frame."""
        return list(_METRICS)

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[CameraSource]:
        """The source with its process running; raises SourceError."""
        source = CameraSource(self, await _start(self), now_ms)
        try:
            yield source
        finally:
            await source.close()


async def _start(config: CameraConfig) -> asyncio.subprocess.Process:
    with needed_by(config.name):
        password = config.password()
    settings = {
        "url": config.url,
        "username": config.username,
        "password": password,
        "interval_s": config.interval_s,
        "lost_after_s": config.patience_s,
        "max_frame_bytes": config.max_frame_bytes,
        "parent_pid": os.getpid(),
    }
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge.sources.camera.process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=_CODE,
            env=os.environ | _CHILD_ENVIRONMENT,
            limit=_LINE_BYTES,
        )
    except OSError as exc:
        raise SourceError(f"camera {config.url}: its process cannot be started: {exc}") from exc
    assert process.stdin is not None
    # Through the pipe: a command line can be read by every user of the machine.
    process.stdin.write(json.dumps(settings).encode() + b"\n")
    return process


class CameraSource(Source):
    """An open camera: a process that watches it, and what that process has told."""

    def __init__(self, config: CameraConfig, process: asyncio.subprocess.Process, now_ms: Clock) -> None:
        self._config = config
        self._process = process
        self._now_ms = now_ms
        self._waiting: asyncio.Queue[list[Reading]] = asyncio.Queue(_MAX_WAITING_FRAMES)
        self._is_ready = False
        self._frame_s = time.monotonic()
        self._fault: str | None = None
        self._last_words = ""
        self._listening = [
            asyncio.create_task(self._listen(), name=f"camera {config.name} stdout"),
            asyncio.create_task(self._listen_to_errors(), name=f"camera {config.name} stderr"),
        ]

    async def poll(self) -> list[Reading]:
        """The readings of every frame kept since the last poll; raises SourceError when the camera is lost."""
        readings = self.remaining()
        if not readings and (why := self._why_lost()) is not None:
            raise SourceError(f"camera {self._config.url}: {why}")
        return readings

    def remaining(self) -> list[Reading]:
        """The readings of frames that were kept and not polled yet."""
        readings: list[Reading] = []
        while not self._waiting.empty():
            readings += self._waiting.get_nowait()
        return readings

    async def close(self) -> None:
        """End the process: it may tell what it still has for a second, then it is killed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await asyncio.gather(*self._listening, return_exceptions=True)
        finally:
            with suppress(ProcessLookupError):
                self._process.kill()
            for task in self._listening:
                task.cancel()
            await asyncio.gather(*self._listening, return_exceptions=True)
            await self._process.wait()

    def _why_lost(self) -> str | None:
        now_s, patience_s = time.monotonic(), self._config.patience_s
        if self._listening[0].done():
            return f"its process has ended ({self._last_words or 'without a word'})"
        if not self._is_ready:
            return "its process does not start" if now_s - self._frame_s > _START_S else None
        if now_s - self._frame_s > patience_s:
            return f"no frame for {now_s - self._frame_s:.1f} s ({self._fault or 'it is silent'})"
        return None

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            await self._hear(json.loads(line))

    async def _hear(self, told: dict[str, Any]) -> None:
        if "ready" in told:
            self._is_ready, self._frame_s = True, time.monotonic()
        elif "fault" in told:
            self._note(told["fault"])
        else:
            self._frame_s = time.monotonic()
            self._note(None if told["values"] is not None else f"frame not used: {told['reason']}")
            await self._waiting.put(self._readings(told))

    def _readings(self, told: dict[str, Any]) -> list[Reading]:
        at_ms = told["sampled_at_ms"]
        if at_ms is None:
            at_ms = self._now_ms() - round((time.monotonic() - told["arrived_s"]) * 1000)
        if told["values"] is None:
            return [Reading(metric.name, metric.datatype, None, at_ms, Quality.BAD) for metric in _METRICS]
        # The first frame has no motion: there is nothing that it could have changed from.
        return [Reading(name, DataType.DOUBLE, value, at_ms) for name, value in told["values"].items()]

    def _note(self, fault: str | None) -> None:
        if fault is not None and fault != self._fault:
            logger.warning("%s: %s: %s", self._config.name, self._config.url, fault)
        elif fault is None and self._fault is not None:
            logger.info("%s: frames come again", self._config.name)
        self._fault = fault

    async def _listen_to_errors(self) -> None:
        assert self._process.stderr is not None
        while text := await self._process.stderr.read(_LINE_BYTES):
            words = text.decode(errors="replace").strip()
            logger.debug("%s: %s", self._config.name, words)
            self._last_words = words.splitlines()[-1] if words else self._last_words
