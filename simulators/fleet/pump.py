"""Paho without its thread: the event loop watches the socket, and has paho read and write when there is cause.

With hundreds of clients in a process, a thread for each would cost more than their messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import paho.mqtt.client as paho

# Of the keep-alive: how often paho looks whether a ping is due.
_TICK_SHARE: Final = 0.25


class Pump:
    """Drives a client that has dialled, from `start` until its socket is closed; `broken` is told why paho fails."""

    def __init__(self, client: paho.Client, keepalive_s: int, broken: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._tick_s = keepalive_s * _TICK_SHARE
        self._broken = broken
        self._sock: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_writing = False
        client.on_socket_register_write = self._wants_to_write
        client.on_socket_close = lambda *_: self.rest()

    def start(self) -> None:
        """Take over the socket."""
        if isinstance(sock := self._client.socket(), socket.socket):
            # Else a small message waits until the one before it is acknowledged, up to 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock = sock
            self._loop.add_reader(sock, self._read)
            self._timer = self._loop.call_later(self._tick_s, self._tick)
            self._write()

    def rest(self) -> None:
        """Neither read nor write any more; the socket stays as it is."""
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
        if self._timer is not None:
            self._timer.cancel()
        self._sock, self._timer, self._is_writing = None, None, False

    def stop(self) -> None:
        """Close the socket without a goodbye, whatever is still to be written."""
        sock = self._client.socket()
        self.rest()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _read(self) -> None:
        self._do(self._client.loop_read)
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            # Decrypted already: the socket itself will not say that there is more.
            self._loop.call_soon(self._read)

    def _write(self) -> None:
        self._do(self._client.loop_write)
        if self._sock is None or self._is_writing == self._client.want_write():
            return
        self._is_writing = not self._is_writing
        if self._is_writing:
            self._loop.add_writer(self._sock, self._write)
        else:
            self._loop.remove_writer(self._sock)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        self._do(self._client.loop_misc)

    def _do(self, step: Callable[[], object]) -> None:
        if self._sock is None:
            return
        try:
            step()
        except Exception as exc:  # noqa: BLE001 - paho raises anything at what it cannot read; a new connection helps
            self.stop()
            self._broken(f"paho cannot go on: {exc!r}")

    def _wants_to_write(self, *_: object) -> None:
        # Called by paho. While it dials, in a thread, there is no socket here, and `start` will write.
        if self._sock is not None:
            self._loop.call_soon(self._write)
