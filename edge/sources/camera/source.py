"""An open camera: the process that watches it, what that has told, and its end when it hangs or takes too much."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from contract.sparkplug import Quality
from edge.errors import SourceError
from edge.lane import Lane
from edge.reading import Reading
from edge.sources.base import Source
from edge.sources.camera import child
from edge.sources.camera.clips import ClipReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from edge.sources.base import Clock
    from edge.sources.camera.config import CameraConfig
    from edge.sources.camera.scene import SceneModels

logger = logging.getLogger(__name__)

_START_S: Final = 20.0  # for the child to load OpenCV on a busy Pi
_CLOSE_S: Final = 1.0  # for the child to tell what it still has
_GUARD_S: Final = 0.25
_MAX_WAITING_FRAMES: Final = 10_000
_READ_BYTES: Final = 64 * 1024
_WORDS_CHARACTERS: Final = 300


@asynccontextmanager
async def opened(config: CameraConfig, now_ms: Clock) -> AsyncIterator[CameraSource]:
    """The source with its process running; raises SourceError."""
    source = CameraSource(config, await child.start(config), now_ms)
    try:
        yield source
    finally:
        await source.close()


class CameraSource(Source):
    """An open camera."""

    def __init__(self, config: CameraConfig, process: asyncio.subprocess.Process, now_ms: Clock) -> None:
        self._config = config
        self._process = process
        self._now_ms = now_ms
        self._types = {metric.name: metric.datatype for metric in config.metrics()}
        self._of_a_frame = [metric.name for metric in config.metrics() if metric.lane is Lane.LIVE]
        self._waiting: asyncio.Queue[list[Reading]] = asyncio.Queue(_MAX_WAITING_FRAMES)
        self._is_ready = False
        self._has_ended = False
        self._frame_s = time.monotonic()
        self._fault: str | None = None
        self._cut: str | None = None
        self._last_words = ""
        self._clips = ClipReader(config.kept.hour, config.clips.max_hour_bytes, self._at_ms) if config.clips else None
        self._learning, self._scene = config.learning, config.scene_models
        self._usage = child.Usage(process.pid)
        self._counts: dict[str, int] = {}
        self._strained = False
        self._tasks = [
            asyncio.create_task(self._listen(), name=f"camera {config.name} stdout"),
            asyncio.create_task(self._listen_to_errors(), name=f"camera {config.name} stderr"),
            asyncio.create_task(self._guard(), name=f"camera {config.name} guard"),
        ]
        if self._scene is not None:
            task = asyncio.create_task(self._serve_scene(self._scene), name=f"camera {config.name} scene model")
            self._tasks.append(task)

    async def poll(self) -> list[Reading]:
        """The readings of every frame used since the last poll; raises SourceError when the camera is lost."""
        readings = self.remaining()
        if not readings and self._config.playback == "polled" and not self._has_ended:
            readings = await self._next_frame()
        if not readings and (why := self._cut or self._why_lost()) is not None:
            raise SourceError(f"camera {self._config.origin}: {why}")
        return readings

    def remaining(self) -> list[Reading]:
        """The readings of frames that were used and not polled yet."""
        readings: list[Reading] = []
        while not self._waiting.empty():
            readings += self._waiting.get_nowait()
        return readings

    def details(self) -> Mapping[str, float | str]:
        """What its process takes, and how many frames it read, looked at and left out."""
        usage = {"memory_mb": round(self._usage.memory_mb, 1), "cpu_percent": round(self._usage.cpu_percent, 1)}
        clips = (
            {"clip_frames_left_out": self._counts.get("clip_frames_left_out", 0) + self._clips.left_out}
            if self._clips
            else {}
        )
        learning = {"scene_samples": self._learning.sent} if self._learning else {}
        scene = self._scene.details() if self._scene else {}
        return {**usage, **self._counts, **clips, **learning, **scene}

    async def close(self) -> None:
        """End the process: it may tell what it still has for a second, then it is killed."""
        assert self._process.stdin is not None
        listening = self._tasks[:2]
        try:
            for task in self._tasks[2:]:
                task.cancel()
            self._process.stdin.close()
            self._send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await asyncio.gather(*listening, return_exceptions=True)
        finally:
            self._send_signal(signal.SIGKILL)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._process.wait()
            if self._scene is not None:
                await self._scene.process_ended(self._process.returncode)

    def _send_signal(self, number: signal.Signals) -> None:
        # By ourselves: Popen's would first wait for a process that has just ended, which asyncio then misses.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _next_frame(self) -> list[Reading]:
        """Ask for a frame of the recording and wait for it, or for its end; nothing where that takes too long."""
        assert self._process.stdin is not None
        with suppress(ConnectionError, TimeoutError):
            self._process.stdin.write(b"\n")
            async with asyncio.timeout(self._config.patience_s):
                return await self._waiting.get()
        return []

    async def _guard(self) -> None:
        """Cut a process that hangs or takes too much memory, at once and not only at the next poll."""
        while self._cut is None:
            await asyncio.sleep(_GUARD_S)
            self._usage.measure()
            most_mb = self._config.max_memory_mb
            if self._usage.memory_mb > most_mb:
                self._cut = f"its process took {self._usage.memory_mb:.0f} MiB: allowed are {most_mb} (max_memory_mb)"
            else:
                self._cut = self._why_lost()
        self._send_signal(signal.SIGKILL)

    def _why_lost(self) -> str | None:
        now_s, patience_s = time.monotonic(), self._config.patience_s
        if self._tasks[0].done():
            return f"its process has ended ({self._last_words or 'without a word'})"
        if not self._is_ready:
            return "its process does not start" if now_s - self._frame_s > _START_S else None
        if self._has_ended or (self._config.playback == "polled" and self._fault is None):
            return None
        if now_s - self._frame_s > patience_s:
            return f"no frame for {now_s - self._frame_s:.1f} s ({self._fault or 'it is silent'})"
        return None

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            await self._hear(json.loads(line))

    async def _hear(self, told: dict[str, Any]) -> None:
        match told:
            case {"ready": True}:
                self._is_ready, self._frame_s = True, time.monotonic()
            case {"fault": fault}:
                self._note(_printable(fault))
            case {"end": True}:
                self._has_ended = True
                await self._waiting.put([])
                logger.info("%s: %s was played to its end", self._config.name, self._config.origin)
            case {"counts": counts}:
                self._note_counts(counts)
            case {"shot": shot}:
                if self._clips is not None and (frame := self._clips.reading(shot)) is not None:
                    await self._waiting.put([frame])
            case {"sample": sample}:
                await self._take_sample(sample)
            case {"scene": how}:
                if self._scene is not None:
                    await self._scene.heard(how | {"reason": how["reason"] and _printable(how["reason"])})
            case _:
                self._frame_s = time.monotonic()
                self._note(None if told["values"] is not None else f"frame not used: {_printable(told['reason'])}")
                await self._waiting.put(self._readings(told))

    async def _take_sample(self, sample: dict[str, Any]) -> None:
        if self._learning is None:
            return
        if (reading := self._learning.reading(sample, self._at_ms)) is not None:
            await self._waiting.put([reading])
        if self._learning.is_complete:
            self._order({"learnt": True})

    async def _serve_scene(self, scene: SceneModels) -> None:
        """Has the process go by the model that there is, whichever that is."""
        given = None
        while True:
            scene.changed.clear()
            await scene.look()
            if scene.settings != given:
                given = scene.settings
                self._order({"scene": None if given is None else given.to_document()})
            with suppress(TimeoutError):
                async with asyncio.timeout(scene.watch_s):
                    await scene.changed.wait()

    def _order(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def _readings(self, told: dict[str, Any]) -> list[Reading]:
        at_ms = self._at_ms(told)
        if told["values"] is None:
            return [Reading(name, self._types[name], None, at_ms, Quality.BAD) for name in self._of_a_frame]
        # The first frame has no motion: there is nothing that it could have changed from.
        # An alarm that nobody can tell any more is null.
        readings = [
            Reading(name, self._types[name], value, at_ms, Quality.BAD if value is None else Quality.GOOD)
            for name, value in told["values"].items()
        ]
        return readings + self._scene.readings(at_ms) if self._scene else readings

    def _at_ms(self, when: Mapping[str, Any]) -> int:
        """The camera's own time, else that of the arrival by the agent's clock."""
        if when["sampled_at_ms"] is not None:
            return int(when["sampled_at_ms"])
        age_s: float = time.monotonic() - when["arrived_s"]
        return self._now_ms() - round(age_s * 1000)

    def _note_counts(self, counts: dict[str, int]) -> None:
        strained = counts["left_out"] > self._counts.get("left_out", 0)
        if strained and not self._strained:
            percent = f"{self._config.cpu_percent:g} % of a core"
            logger.warning("%s: frames are left out: they need more than %s (cpu_percent)", self._config.name, percent)
        elif self._strained and not strained:
            logger.info("%s: no frame is left out any more", self._config.name)
        self._strained, self._counts = strained, counts

    def _note(self, fault: str | None) -> None:
        if fault is not None and fault != self._fault:
            logger.warning("%s: %s: %s", self._config.name, self._config.origin, fault)
        elif fault is None and self._fault is not None:
            logger.info("%s: frames come again", self._config.name)
        self._fault = fault

    async def _listen_to_errors(self) -> None:
        assert self._process.stderr is not None
        while text := await self._process.stderr.read(_READ_BYTES):
            lines = text.decode(errors="replace").strip().splitlines()
            self._last_words = _printable(lines[-1]) if lines else self._last_words
            logger.debug("%s: %s", self._config.name, self._last_words)


def _printable(words: str) -> str:
    """What a camera made its process say, fit for a log and a terminal."""
    return "".join(c if c.isprintable() else "?" for c in words[:_WORDS_CHARACTERS])
