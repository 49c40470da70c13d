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
NEEDED: Final = (
    "RTSP needs GStreamer: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
)


@contextlib.asynccontextmanager
async def serve_rtsp(broadcast: Broadcast, arguments: Sequence[str], name: str) -> AsyncIterator[int]:
    """Serve the broadcast by RTSP inside the context, and give the port.

    `arguments` are those of rtsp_server.py. Raises SimulatorError when GStreamer is not there or the port is taken.
    """
    process = await _start(arguments)
    try:
        port = await _port(process, name)
        feeding = asyncio.create_task(_feed(process, broadcast, name), name=f"{name} RTSP")
        try:
            yield port
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
    finally:
        await _stop(process)


async def _start(arguments: Sequence[str]) -> Process:
    try:
        # Of its own session: Ctrl-C in a terminal is for the simulator, which then stops it.
        return await asyncio.create_subprocess_exec(
            SYSTEM_PYTHON, "-I", str(_SCRIPT), *arguments, stdin=PIPE, stdout=PIPE, start_new_session=True
        )
    except OSError as exc:
        raise SimulatorError(f"{NEEDED}; {SYSTEM_PYTHON}: {exc.strerror}") from exc


async def _port(process: Process, name: str) -> int:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_S):
            line = await process.stdout.readline()
    except TimeoutError:
        raise SimulatorError(f"{name}: the RTSP server said nothing within {_START_S} s") from None
    said = json.loads(line or '{"error": "it ended without a word"}')
    if "error" in said:
        raise SimulatorError(f"{name}: no RTSP: {said['error']}. {NEEDED}")
    port: int = said["port"]
    return port


async def _feed(process: Process, broadcast: Broadcast, name: str) -> None:
    """Write frames while the server says that someone plays."""
    assert process.stdout is not None
    writing: asyncio.Task[None] | None = None
    try:
        async for line in process.stdout:
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            plays = json.loads(line)["plays"]
            writing = asyncio.create_task(_write(process, broadcast), name=f"{name} RTSP frames") if plays else None
        logger.error("%s: the RTSP server ended with status %s; MJPEG goes on", name, await process.wait())
    finally:
        if writing is not None:
            writing.cancel()


async def _write(process: Process, broadcast: Broadcast) -> None:
    assert process.stdin is not None
    with broadcast.watch() as frames, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for frame in frames:
            process.stdin.write(cv2.cvtColor(frame.picture, cv2.COLOR_BGR2YUV_I420).tobytes())
            await process.stdin.drain()


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    # communicate() closes stdin, which alone is enough to end it, and reads what is left.
    try:
        async with asyncio.timeout(_STOP_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
