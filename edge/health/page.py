"""Pages on loopback: /healthz as JSON for people and programs, /metrics for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from edge.health.exposition import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
_MAX_REQUEST_BYTES: Final = 8192
_TIMEOUT_S: Final = 5.0
_JSON: Final = "application/json"


@contextlib.asynccontextmanager
async def health_page(port: int, report: Callable[[], Awaitable[Mapping[str, object]]]) -> AsyncIterator[int]:
    """Serves `report` while the context lasts; gives the port, which was chosen by the system where 0 was asked for.

    A report whose `stuck` is not empty is told with status 503. Raises OSError when the port is taken.
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

    server = await asyncio.start_server(answer, LOOPBACK, port, limit=_MAX_REQUEST_BYTES)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def open_health_page(
    stack: contextlib.AsyncExitStack, port: int, report: Callable[[], Awaitable[Mapping[str, object]]]
) -> None:
    """Serves it until `stack` is closed; an agent goes on where it cannot be."""
    try:
        found = await stack.enter_async_context(health_page(port, report))
        logger.info("health page at http://%s:%d/healthz", LOOPBACK, found)
    except OSError as exc:
        logger.error("no health page: %s", exc)  # noqa: TRY400 - an operator has no use for the traceback


async def _response(request: bytes, report: Callable[[], Awaitable[Mapping[str, object]]]) -> bytes:
    method, _, rest = request.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if path not in {b"/healthz", b"/metrics"}:
        return _http(HTTPStatus.NOT_FOUND, _JSON, {"error": "the only pages are /healthz and /metrics"})
    if method != b"GET":
        return _http(HTTPStatus.METHOD_NOT_ALLOWED, _JSON, {"error": "the only method is GET"})
    content = await report()
    if path == b"/metrics":
        return _http(HTTPStatus.OK, CONTENT_TYPE, exposition(content))
    return _http(HTTPStatus.SERVICE_UNAVAILABLE if content["stuck"] else HTTPStatus.OK, _JSON, content)


def _http(status: HTTPStatus, content_type: str, content: Mapping[str, object] | str) -> bytes:
    # `default`: a value that JSON does not know is shown as text.
    body = (content if isinstance(content, str) else json.dumps(content, default=str)).encode(errors="replace")
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
