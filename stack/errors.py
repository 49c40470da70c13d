"""The errors of this role.

StackError
├── NotInstalledError   a server's files are not there: `make setup`
├── PortTakenError      somebody else listens where a server was to listen
└── ServerError         a server did not start, or ended by itself; carries its log's last lines
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class StackError(Exception):
    """Something about a server on this machine."""


class NotInstalledError(StackError):
    """A server's files are not where set-up puts them."""

    def __init__(self, name: str, missing: Path) -> None:
        self.name = name
        self.missing = missing
        super().__init__(f"{name} is not installed: {missing} is not there; run `make setup`")


class PortTakenError(StackError):
    """Another process listens on the port that a server was asked to listen on."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        super().__init__(
            f"{name} cannot listen on 127.0.0.1:{port}: another process does already; stop that or give another port",
        )


class ServerError(StackError):
    """A server did not do what it was asked to; its log says why."""

    def __init__(self, name: str, happened: str, log_path: Path, log_tail: str) -> None:
        self.name = name
        self.happened = happened
        self.log_path = log_path
        self.log_tail = log_tail
        quoted = "".join(f"\n  | {line}" for line in log_tail.splitlines()) or "\n  | (nothing)"
        super().__init__(f"{name} {happened}; its log {log_path} ends with:{quoted}")
