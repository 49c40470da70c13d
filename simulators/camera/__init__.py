"""A camera over a yard: MJPEG over HTTP, and RTSP where GStreamer is installed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field, model_validator

from simulators.camera.incidents import IncidentPlan, IncidentSchedule
from simulators.ledger import Match, now_ms
from simulators.simulator import Running, SimulatorConfig
from simulators.web import serve_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from simulators.camera.frames import Broadcast
    from simulators.camera.incidents import PlannedIncident
    from simulators.ledger import Ledger


_RTSP_PATH: Final = "/stream"
# How many bytes the kernel may hold for a client that does not read: frames in it count as sent.
_SEND_BUFFER_BYTES: Final = 32 * 1024
_INCIDENT_CHECK_S: Final = 0.1


class CameraConfig(SimulatorConfig):
    """A yard with people, vehicles, day and night, and what may go wrong there."""

    match: ClassVar[Match] = Match.FRAME

    type: Literal["camera"]
    width: int = Field(default=320, ge=64, le=1920, multiple_of=8, description="Pixels")
    height: int = Field(default=240, ge=48, le=1080, multiple_of=2, description="Pixels")
    fps: int = Field(default=10, ge=1, le=30, description="Frames a second")
    day_s: float = Field(default=86_400.0, ge=10, description="Seconds from one midnight to the next")
    incidents: tuple[IncidentSchedule, ...] = Field(default=(), description="What goes wrong, and how often")
    rtsp: bool = Field(default=False, description="Whether to serve RTSP too; needs GStreamer")
    rtsp_port: int = Field(default=0, ge=0, le=65535, description="TCP port for RTSP; 0 takes a free one")

    @model_validator(mode="after")
    def _port_has_use(self) -> Self:
        if self.rtsp_port and not self.rtsp:
            raise ValueError("rtsp_port is given, but rtsp is not true")
        return self

    def run(self, ledger: Ledger) -> AbstractAsyncContextManager[Running]:
        """Show the yard inside the context."""
        return _run(self, ledger)


@contextlib.asynccontextmanager
async def _run(config: CameraConfig, ledger: Ledger) -> AsyncIterator[Running]:
    # OpenCV is imported where it is used: a scenario can be checked where it is not installed.
    from simulators.camera.frames import Broadcast, FrameMaker  # noqa: PLC0415  # heavy: loaded where it is used
    from simulators.camera.mjpeg import CameraSite  # noqa: PLC0415  # heavy: loaded where it is used
    from simulators.camera.scene import Scene  # noqa: PLC0415  # heavy: loaded where it is used

    plan = IncidentPlan(config.seed, config.incidents)
    scene = Scene(config.seed, config.width, config.height, config.day_s)
    broadcast = Broadcast(FrameMaker(scene, plan, config.fps))
    app = CameraSite(broadcast, plan, ledger).app()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(broadcast.running())
        await stack.enter_async_context(_noting_incidents(plan, ledger))
        serving = serve_http(app, config.host, config.port, config.name, _SEND_BUFFER_BYTES)
        url = await stack.enter_async_context(serving)
        addresses = {"mjpeg": f"{url}/stream.mjpg", "watch": f"{url}/watch.mjpg", "snapshot": f"{url}/snapshot.jpg"}
        if config.rtsp:
            addresses |= await _add_rtsp(stack, config, broadcast)
        # Streams never end by themselves, and the server waits for them.
        stack.callback(broadcast.end)
        yield Running({"url": url, **addresses})


async def _add_rtsp(stack: contextlib.AsyncExitStack, config: CameraConfig, broadcast: Broadcast) -> dict[str, str]:
    from simulators.camera.rtsp import serve_rtsp  # noqa: PLC0415 - with OpenCV, as above

    size = [f"--width={config.width}", f"--height={config.height}", f"--fps={config.fps}"]
    arguments = [f"--host={config.host}", f"--path={_RTSP_PATH}", *size]
    port = await stack.enter_async_context(serve_rtsp(broadcast, arguments, config.rtsp_port, config.name))
    return {"rtsp": f"rtsp://{config.host}:{port}{_RTSP_PATH}"}


@contextlib.asynccontextmanager
async def _noting_incidents(plan: IncidentPlan, ledger: Ledger) -> AsyncIterator[None]:
    task = asyncio.create_task(_note_incidents(plan, ledger), name="camera incidents")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _note_incidents(plan: IncidentPlan, ledger: Ledger) -> None:
    """Note each incident as it starts and as it ends, whether or not anyone watches."""
    lasting: frozenset[PlannedIncident] = frozenset()
    try:
        while True:
            found = plan.at(now_ms())
            for incident in sorted(found - lasting):
                ledger.incident(incident.kind, incident.from_ms)
            for incident in sorted(lasting - found):
                ledger.incident(incident.kind, incident.from_ms, incident.to_ms)
            lasting = found
            await asyncio.sleep(_INCIDENT_CHECK_S)
    finally:
        for incident in sorted(lasting):
            ledger.incident(incident.kind, incident.from_ms, min(now_ms(), incident.to_ms))
