"""Pictures over HTTP: a stream of JPEGs as network cameras send it, single pictures, and incidents on demand."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.camera.incidents import IncidentKind, PlannedIncident
from simulators.ledger import now_ms

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from simulators.camera.frames import Broadcast, Frame
    from simulators.camera.incidents import IncidentPlan
    from simulators.ledger import Ledger

BOUNDARY: Final = "headwater-frame"
_MAX_DURATION_S: Final = 3600


def to_part(frame: Frame) -> bytes:
    """A frame as a part of the multipart stream, its boundary ahead of it."""
    head = (
        f"--{BOUNDARY}\r\n"
        "Content-Type: image/jpeg\r\n"
        f"Content-Length: {len(frame.jpeg)}\r\n"
        f"X-Timestamp: {_seconds(frame)}\r\n"
        "\r\n"
    )
    return head.encode() + frame.jpeg + b"\r\n"


def _seconds(frame: Frame) -> str:
    # From whole ms, never through a float, so that the ledger and the header say the same.
    return f"{frame.at_ms // 1000}.{frame.at_ms % 1000:03d}"


class MjpegResponse(Response):
    """An endless answer: every frame from now on, each noted once it has been handed to the connection.

    With `ledger` None nothing is noted: a person looks, whose frames nobody stores.
    """

    def __init__(self, broadcast: Broadcast, ledger: Ledger | None, connection: int) -> None:
        super().__init__(media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        del self.headers["content-length"]
        self.headers["Cache-Control"] = "no-store"
        self._broadcast = broadcast
        self._ledger = ledger
        self._connection = connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client has gone or there are no more frames."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send_frames(send), name=f"MJPEG to {scope.get('client')}")
        leaving = asyncio.create_task(_gone(receive), name="MJPEG client")
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            if self._ledger is not None:
                self._ledger.closed(self._connection)
        if not sending.cancelled():
            sending.result()
            await send({"type": "http.response.body", "body": f"--{BOUNDARY}--\r\n".encode()})

    async def _send_frames(self, send: Send) -> None:
        with self._broadcast.watch() as frames:
            async for frame in frames:
                try:
                    await send({"type": "http.response.body", "body": to_part(frame), "more_body": True})
                finally:
                    # Also when the client goes meanwhile: it may have had the frame all the same.
                    self._note(frame)

    def _note(self, frame: Frame) -> None:
        if self._ledger is not None:
            values = {"brightness": frame.brightness, "sharpness": frame.sharpness}
            self._ledger.served(values, source_at=frame.at_ms, connection=self._connection)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class CameraSite:
    """The HTTP side of a camera."""

    def __init__(self, broadcast: Broadcast, plan: IncidentPlan, ledger: Ledger) -> None:
        self._broadcast = broadcast
        self._plan = plan
        self._ledger = ledger
        self._numbers = itertools.count(1)

    def app(self) -> Starlette:
        """The routes."""
        return Starlette(
            routes=[
                Route("/stream.mjpg", self.stream),
                Route("/watch.mjpg", self.watch),
                Route("/snapshot.jpg", self.snapshot),
                Route("/incidents", self.incidents),
                Route("/incidents", self.demand, methods=["POST"]),
            ]
        )

    async def stream(self, request: Request) -> Response:
        """The stream for an agent: what is sent is in the ledger."""
        return self._stream(request, self._ledger)

    async def watch(self, request: Request) -> Response:
        """The stream for a person: no part of the ledger."""
        return self._stream(request, None)

    def _stream(self, request: Request, ledger: Ledger | None) -> Response:
        if request.method == "HEAD":
            return Response(media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        return MjpegResponse(self._broadcast, ledger, next(self._numbers))

    async def snapshot(self, _: Request) -> Response:
        """One picture, no part of the ledger."""
        frame = await self._broadcast.newest()
        headers = {"X-Timestamp": _seconds(frame), "Cache-Control": "no-store"}
        return Response(frame.jpeg, media_type="image/jpeg", headers=headers)

    async def incidents(self, _: Request) -> JSONResponse:
        """What is going on now."""
        return JSONResponse([_described(incident) for incident in sorted(self._plan.at(now_ms()))])

    async def demand(self, request: Request) -> JSONResponse:
        """Start an incident: `?kind=smoke&duration_s=10`."""
        kind, duration = request.query_params.get("kind"), request.query_params.get("duration_s", "15")
        if kind not in set(IncidentKind):
            return JSONResponse({"error": f"kind {kind!r}: allowed are {', '.join(IncidentKind)}"}, status_code=400)
        duration_ms = _milliseconds(duration)
        if duration_ms is None:
            return JSONResponse(
                {"error": f"duration_s {duration!r}: allowed are 0.1 to {_MAX_DURATION_S}"}, status_code=400
            )
        # A frame of this moment may be on its way already: the incident starts with the next ones.
        from_ms = now_ms() + 1
        incident = PlannedIncident(from_ms, from_ms + duration_ms, IncidentKind(kind))
        self._plan.demand(incident)
        return JSONResponse(_described(incident), status_code=201)


def _milliseconds(text: str) -> int | None:
    try:
        duration_s = float(text)
    except ValueError:
        return None
    return round(1000 * duration_s) if 0.1 <= duration_s <= _MAX_DURATION_S else None  # noqa: PLR2004 - a frame at 10 fps


def _described(incident: PlannedIncident) -> dict[str, Any]:
    return {"kind": incident.kind, "from": incident.from_ms, "to": incident.to_ms}
