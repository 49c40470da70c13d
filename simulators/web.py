"""An HTTP server inside the running event loop, bound before it answers so that its address is known."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

import uvicorn

from simulators.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import ASGIApp

_STOP_S: Final = 2
_KEEP_ALIVE_S: Final = 300


class _EmbeddedServer(uvicorn.Server):
    """A server that leaves the signals to the program it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextlib.asynccontextmanager
async def serve_http(
    app: ASGIApp, host: str, port: int, name: str, send_buffer_bytes: int | None = None
) -> AsyncIterator[str]:
    """Answer HTTP inside the context and give the base URL; raises SimulatorError when the port cannot be had.

    `send_buffer_bytes` bounds what the kernel holds for a client that does not read.
    """
    listener = _listen(host, port, name, send_buffer_bytes)
    server = _EmbeddedServer(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            # Longer than any poll interval in use: a connection closed just as it is used again fails a poll.
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_STOP_S,
        )
    )
    # The socket listens already: whoever connects before the task runs waits in the backlog.
    task = asyncio.create_task(server.serve([listener]), name=f"{name} HTTP")
    try:
        yield _url(listener)
    finally:
        server.should_exit = True
        await task


def _listen(host: str, port: int, name: str, send_buffer_bytes: int | None) -> socket.socket:
    try:
        listener = socket.create_server((host, port), family=_family(host))
    except OSError as exc:
        raise SimulatorError(f"{name}: cannot listen at {host}:{port}: {exc.strerror}") from exc
    if send_buffer_bytes is not None:
        # Connections inherit it from the listener.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
