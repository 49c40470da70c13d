"""GET /healthz on loopback: what the agent is doing, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

logger = logging.getLogger(__name__)

_LOOPBACK: Final = "127.0.0.1"
_MAX_REQUEST_BYTES: Final = 8192
_TIMEOUT_S: Final = 5.0


@contextlib.asynccontextmanager
async def health_page(port: int, report: Callable[[], Awaitable[dict[str, object]]]) -> AsyncIterator[int]:
    """Serves `report` while the context lasts; gives the port, which was chosen by the system where 0 was asked for.

    Raises OSError when the port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that goes away or dawdles is its own affair.
        with (
            contextlib.closing(writer),
            contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError),
        ):
            async with asyncio.timeout(_TIMEOUT_S):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _response(request, report))
                await writer.drain()

    server = await asyncio.start_server(answer, _LOOPBACK, port, limit=_MAX_REQUEST_BYTES)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _response(request: bytes, report: Callable[[], Awaitable[dict[str, object]]]) -> bytes:
    method, _, rest = request.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if path != b"/healthz":
        return _http(HTTPStatus.NOT_FOUND, {"error": "the only page is /healthz"})
    if method != b"GET":
        return _http(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "the only method is GET"})
    return _http(HTTPStatus.OK, await report())


def _http(status: HTTPStatus, content: dict[str, object]) -> bytes:
    # `default`: a value that JSON does not know, such as bytes, is shown as text.
    body = json.dumps(content, default=str).encode()
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
