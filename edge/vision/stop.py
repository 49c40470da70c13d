"""The wish to stop, and what must not keep a process from it."""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import suppress
from typing import Final

_DRAIN_S: Final = 0.3


class Stop:
    """Asked for by a signal or by the end of stdin; what a socket holds is still read, for a moment."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._wanted = threading.Semaphore(0)
        self._socket: socket.socket | None = None
        self._deadline_s = math.inf

    def request(self, *_: object) -> None:
        """Let the reading end."""
        self._deadline_s = time.monotonic() + _DRAIN_S
        self._event.set()
        self._wanted.release()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)

    def watch(self, connection: socket.socket) -> None:
        """End the reading of this socket on request."""
        self._socket = connection

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    @property
    def is_overdue(self) -> bool:
        """Whether to stop even though there is something left to read."""
        return time.monotonic() > self._deadline_s

    def wait(self, seconds: float) -> None:
        """Sleep, unless stopped."""
        self._event.wait(seconds)

    def want_frame(self) -> None:
        """The agent asks for a frame of a file that is played on demand."""
        self._wanted.release()

    def wait_until_wanted(self) -> None:
        """Sleep until a frame is asked for, or stopped."""
        self._wanted.acquire()
