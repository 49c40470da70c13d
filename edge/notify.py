"""What systemd is told (sd_notify): ready, what we do, still alive, reloading, stopping.

Outside of systemd, where NOTIFY_SOCKET is not set, nothing is told to nobody. What cannot be told is not an error:
collecting goes on, and systemd notices by itself.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

_US_PER_S: Final = 1_000_000
_NS_PER_US: Final = 1000


class Notifier:
    """Tells systemd, if it listens; `watchdog_s` is how often it wants to hear of us at least, None: not at all."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        # A leading @ stands for the NUL of an abstract socket.
        self._address = f"\0{address[1:]}" if address is not None and address.startswith("@") else address
        self._told_failure = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """What systemd's environment variables ask for."""
        return cls(environment.get("NOTIFY_SOCKET") or None, _watchdog_s(environment))

    def ready(self) -> None:
        """We have started, or have reloaded."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + " ".join(text.split()))

    def alive(self) -> None:
        """Feeds the watchdog."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // _NS_PER_US}")

    def stopping(self) -> None:
        """An orderly end begins."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(0)
                sender.sendto(message.encode(errors="replace"), self._address)
        except (OSError, ValueError) as exc:  # ValueError: an address with a NUL
            if not self._told_failure:
                logger.warning("systemd cannot be told (NOTIFY_SOCKET): %s", exc)
            self._told_failure = True


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """The watchdog's time, None where there is none or where it is meant for another process."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit()) or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / _US_PER_S
