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
# For the words that systemd waits for; the others come again.
_PATIENCE_S: Final = 0.5


class Notifier:
    """Tells systemd, if it listens; `watchdog_s` is how often it wants to hear of us at least, None: not at all."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        # A leading @ stands for the NUL of an abstract socket.
        self._address = f"\0{address[1:]}" if address is not None and address.startswith("@") else address
        self._told = ""
        self._told_failure = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """What systemd's environment variables ask for."""
        return cls(environment.get("NOTIFY_SOCKET") or None, _watchdog_s(environment))

    def ready(self) -> None:
        """We have started, or have reloaded."""
        self._send("READY=1", _PATIENCE_S)

    def status(self, text: str) -> None:
        """One line for `systemctl status`, told when it changes."""
        line = " ".join(text.split())
        if line != self._told:
            self._told = line
            self._send(f"STATUS={line}")

    def alive(self) -> None:
        """Feeds the watchdog."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // _NS_PER_US}", _PATIENCE_S)

    def stopping(self) -> None:
        """An orderly end begins."""
        self._send("STOPPING=1", _PATIENCE_S)

    def _send(self, message: str, patience_s: float = 0.0) -> None:
        """Tells; what systemd does not take in time, for it has much else to hear, is left out."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(patience_s)
                sender.sendto(message.encode(errors="replace"), self._address)
        except (BlockingIOError, TimeoutError):
            pass
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
