"""Paho without its thread: the event loop watches the socket, and has paho read and write when there is cause.

A thread of its own costs as much as the messages: for each it is woken, and takes the interpreter from the loop.
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

# Keep-alive is in whole seconds.
_TICK_S: Final = 1.0


class Pump:
    """Drives a client from `start` until its socket is closed; `broken` is told why paho itself fails, if it does."""

    def __init__(self, client: paho.Client, broken: Callable[[str], None]) -> None:
        self._client = client
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._is_writing = False
        self._timer: asyncio.TimerHandle | None = None
        client.on_socket_register_write = self._wants_to_write
        client.on_socket_close = self._forget_socket

    def start(self) -> None:
        """Takes over a client that has dialled."""
        if isinstance(sock := self._client.socket(), socket.socket):
            self._sock = sock
            self._loop.add_reader(sock, self._read)
            self._timer = self._loop.call_later(_TICK_S, self._tick)
            self._write()

    def stop(self) -> None:
        """Closes the socket, whatever is still to be written; paho's own way would wait for a broker that may hang."""
        sock = self._client.socket()
        self._forget_socket()
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
        self._timer = self._loop.call_later(_TICK_S, self._tick)
        self._do(self._client.loop_misc)

    def _do(self, step: Callable[[], object]) -> None:
        if self._sock is None:
            return
        try:
            step()
        except Exception as exc:  # noqa: BLE001 - paho raises anything at what it cannot read; a new connection helps
            self.stop()
            self._broken(f"paho cannot go on: {exc!r}")

    # Called by paho.

    def _wants_to_write(self, _client: paho.Client, _userdata: object, _sock: object) -> None:
        # While it dials, in a thread, there is no socket here, and `start` will write.
        if self._sock is not None:
            self._loop.call_soon(self._write)

    def _forget_socket(self, *_: object) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
        if self._timer is not None:
            self._timer.cancel()
        self._sock, self._timer, self._is_writing = None, None, False
