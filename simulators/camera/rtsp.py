"""RTSP by way of a GStreamer process, fed with raw frames while someone plays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2

from simulators.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from simulators.camera.frames import Broadcast

logger = logging.getLogger(__name__)

# GStreamer's bindings come from the system's packages and are seen by the system's Python alone.
SYSTEM_PYTHON: Final = "/usr/bin/python3"
_SCRIPT: Final = Path(__file__).with_name("rtsp_server.py")
_START_S: Final = 20
_STOP_S: Final = 3
_RESTART_S: Final = 1
NEEDED: Final = (
    "RTSP needs GStreamer: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
)


@contextlib.asynccontextmanager
async def serve_rtsp(broadcast: Broadcast, arguments: Sequence[str], port: int, name: str) -> AsyncIterator[int]:
    """Serve the broadcast by RTSP inside the context, and give the port; 0 takes a free one.

    `arguments` are those of rtsp_server.py but the port. Raises SimulatorError when GStreamer is not there or the port
    is taken. A server that dies later is started again at the same port.
    """
    server = _Server(arguments, name)
    try:
        port = await server.start(port)
        feeding = asyncio.create_task(_keep_serving(server, broadcast, port), name=f"{name} RTSP")
        try:
            yield port
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
    finally:
        await server.stop()


async def _keep_serving(server: _Server, broadcast: Broadcast, port: int) -> None:
    while True:
        status = await server.feed(broadcast)
        logger.error("%s: the RTSP server ended with status %s; MJPEG goes on, RTSP comes back", server.name, status)
        while True:
            await asyncio.sleep(_RESTART_S)
            with contextlib.suppress(SimulatorError):
                await server.start(port)
                break
        logger.info("%s: RTSP is back", server.name)


class _Server:
    """The GStreamer process."""

    def __init__(self, arguments: Sequence[str], name: str) -> None:
        self.name = name
        self._arguments = tuple(arguments)
        self._process: Process | None = None

    async def start(self, port: int) -> int:
        """Start it and give the port it listens at; raises SimulatorError."""
        await self.stop()
        self._process = await _start([*self._arguments, f"--port={port}"], self.name)
        return await _port(self._process, self.name)

    async def feed(self, broadcast: Broadcast) -> int:
        """Write frames while it says that someone plays; its exit status once it has ended."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        async with contextlib.AsyncExitStack() as writing:
            async for line in process.stdout:
                await writing.aclose()
                if json.loads(line)["plays"]:
                    task = asyncio.create_task(_write(process, broadcast), name=f"{self.name} RTSP frames")
                    writing.push_async_callback(_cancelled, task)
        return await process.wait()

    async def stop(self) -> None:
        """End it, if it runs."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
        try:
            # This closes its stdin, which alone is enough to end it, and reads what is left.
            async with asyncio.timeout(_STOP_S):
                await self._process.communicate()
        except TimeoutError:
            self._process.kill()
            await self._process.communicate()
        self._process = None


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _start(arguments: Sequence[str], name: str) -> Process:
    try:
        # Of its own session: Ctrl-C in a terminal is for the simulator, which then stops it.
        return await asyncio.create_subprocess_exec(
            SYSTEM_PYTHON, "-I", str(_SCRIPT), *arguments, stdin=PIPE, stdout=PIPE, start_new_session=True
        )
    except OSError as exc:
        raise SimulatorError(f"{name}: no RTSP: {SYSTEM_PYTHON}: {exc.strerror}. {NEEDED}") from exc


async def _port(process: Process, name: str) -> int:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_S):
            line = await process.stdout.readline()
    except TimeoutError:
        raise SimulatorError(f"{name}: no RTSP: its server said nothing within {_START_S} s") from None
    said = json.loads(line or '{"error": "its server ended without a word"}')
    if "error" in said:
        raise SimulatorError(f"{name}: no RTSP: {said['error']}. {NEEDED}")
    port: int = said["port"]
    return port


async def _write(process: Process, broadcast: Broadcast) -> None:
    assert process.stdin is not None
    with broadcast.watch() as frames, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for frame in frames:
            process.stdin.write(cv2.cvtColor(frame.picture, cv2.COLOR_BGR2YUV_I420).tobytes())
            await process.stdin.drain()
