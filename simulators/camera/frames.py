"""Frames made once and handed to everyone who watches, in a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from simulators.camera.incidents import IncidentKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator
    from typing import Self

    from simulators.camera.incidents import IncidentPlan, PlannedIncident
    from simulators.camera.scene import Picture, Scene

_QUALITY: Final = 80
# What a viewer may fall behind before frames are left out for it.
_QUEUED: Final = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as all viewers get it; brightness and sharpness are those of the JPEG."""

    number: int
    at_ms: int
    picture: Picture
    jpeg: bytes
    brightness: float
    sharpness: float


class FrameMaker:
    """Makes the frame of a number, the same whenever it is asked for; numbers count from the epoch."""

    def __init__(self, scene: Scene, plan: IncidentPlan, fps: float) -> None:
        self._scene = scene
        self._plan = plan
        self.fps = fps

    def at_ms(self, number: int) -> int:
        """The UTC time of a frame."""
        return round(1000 * number / self.fps)

    def latest(self, now_s: float) -> int:
        """The number of the newest frame at a UTC time."""
        number = int(now_s * self.fps)
        # Frame times are whole ms, so the newest one may lie a rounding ahead.
        return number if self.at_ms(number) <= now_s * 1000 else number - 1

    def make(self, number: int) -> Frame:
        """The frame of a number."""
        shown, incidents = self._shown(number)
        picture = self._scene.render(shown, self.at_ms(shown) / 1000, incidents)
        encoded, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        assert encoded, "OpenCV encodes every uint8 picture"
        grey = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
        return Frame(
            number=number,
            at_ms=self.at_ms(number),
            picture=picture,
            jpeg=jpeg.tobytes(),
            brightness=float(np.mean(grey)),
            sharpness=float(np.var(cv2.Laplacian(grey, cv2.CV_64F))),
        )

    def _shown(self, number: int) -> tuple[int, Collection[PlannedIncident]]:
        """Which frame the picture is of: a frozen picture stays at the last one before it froze."""
        incidents = self._plan.at(self.at_ms(number))
        frozen = [incident.from_ms for incident in incidents if incident.kind is IncidentKind.FROZEN]
        if not frozen:
            return number, incidents
        shown = self.latest((min(frozen) - 1) / 1000)
        return shown, [i for i in self._plan.at(self.at_ms(shown)) if i.kind is not IncidentKind.FROZEN]


class Viewer:
    """Someone who watches: the frames not yet taken, the oldest left out when there are too many."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue(_QUEUED)

    def offer(self, frame: Frame | None) -> None:
        """Hand over a frame, or None for the end."""
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(frame)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        frame = await self._frames.get()
        if frame is None:
            raise StopAsyncIteration
        return frame


class Broadcast:
    """Makes frames at their times while anyone watches."""

    def __init__(self, maker: FrameMaker) -> None:
        self._maker = maker
        self._viewers: set[Viewer] = set()
        self._watched = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frames")
        self._ended = False

    @contextlib.contextmanager
    def watch(self) -> Iterator[Viewer]:
        """Frames from now on, for as long as the context lasts."""
        viewer = Viewer()
        if self._ended:
            viewer.offer(None)
        self._viewers.add(viewer)
        self._watched.set()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._watched.clear()

    async def newest(self) -> Frame:
        """The newest frame, made for this call."""
        return await self._make(self._maker.latest(time.time()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make frames inside the context; its end is the end for every viewer."""
        task = asyncio.create_task(self._produce(), name="camera frames")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._thread.shutdown()

    def end(self) -> None:
        """Tell every viewer, and whoever comes later, that no more frames come."""
        self._ended = True
        for viewer in self._viewers:
            viewer.offer(None)

    async def _produce(self) -> None:
        while True:
            await self._watched.wait()
            number = self._maker.latest(time.time()) + 1
            await asyncio.sleep(max(0.0, self._maker.at_ms(number) / 1000 - time.time()))
            if not self._viewers:
                continue
            frame = await self._make(number)
            for viewer in tuple(self._viewers):
                viewer.offer(frame)

    async def _make(self, number: int) -> Frame:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._maker.make, number)
