"""What goes wrong with a simulated API: silence, dribbles, half bodies, and answers that are something else."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pydantic import Field
from starlette.responses import Response

from contract.config import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

Kind: TypeAlias = Literal["silent", "dribble", "truncated", "html", "wrong_types", "unit_change", "unavailable"]

_HTML: Final = b"<!DOCTYPE html><html><title>Maintenance</title><body>We will be back soon.</body></html>"
_LOOK_S: Final = 0.05
_BYTE_EVERY_S: Final = 0.1


class ApiFault(Config):
    """A fault of an API for a while."""

    kind: Kind = Field(description="What goes wrong")
    start_s: float = Field(default=0.0, ge=0, description="Seconds after the simulator's start")
    duration_s: float = Field(gt=0, description="Seconds")


class FaultPlan:
    """Which fault there is at a time; the first one listed, where there are more."""

    def __init__(self, faults: Sequence[ApiFault], started_s: float) -> None:
        self._faults = faults
        self._started_s = started_s

    def at(self, now_s: float) -> Kind | None:
        """The fault of a time, UTC seconds."""
        past_s = now_s - self._started_s
        return next((f.kind for f in self._faults if f.start_s <= past_s < f.start_s + f.duration_s), None)


async def keep_silent(request: Request) -> None:
    """Returns when the client has given up."""
    while not await request.is_disconnected():  # noqa: ASYNC110 - a request is asked, it tells nobody
        await asyncio.sleep(_LOOK_S)


class Spoilt(Response):
    """A body that comes a byte at a time, or only half of which comes."""

    def __init__(self, body: bytes, media_type: str, kind: Literal["dribble", "truncated"]) -> None:
        super().__init__(body, media_type=media_type)
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; what is announced as its length is that of the whole."""
        del scope
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        if self._kind == "truncated":
            # Returned from without an end: the server closes the connection.
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return
        gone = asyncio.ensure_future(_gone(receive))
        try:
            for i in range(len(body)):
                await asyncio.wait([gone], timeout=_BYTE_EVERY_S)
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": body[i : i + 1], "more_body": i + 1 < len(body)})
        finally:
            gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def replaced(kind: Kind, body: bytes, media_type: str) -> Response:
    """What is answered instead of a body that is right."""
    match kind:
        case "dribble" | "truncated":
            return Spoilt(body, media_type, kind)
        case "wrong_types":
            return Response(_wrong_types(body, media_type), media_type=media_type)
        case "unavailable":
            return Response(_HTML, status_code=503, media_type="text/html")
        case _:
            return Response(_HTML, media_type="text/html")


def _wrong_types(body: bytes, media_type: str) -> bytes:
    """Each number wrapped in an object, as when an API has moved on to its next version."""
    if "json" not in media_type:
        return body.translate(bytes.maketrans(b"0123456789", b"##########"))

    def wrapped(found: Any) -> Any:  # noqa: ANN401 - JSON
        match found:
            case dict():
                return {key: wrapped(value) for key, value in found.items()}
            case list():
                return [wrapped(value) for value in found]
            case bool() | None:
                return found
            case _:
                return {"raw": found}

    return json.dumps(wrapped(json.loads(body))).encode()
