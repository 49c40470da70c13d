"""A machine reached by OpenSSH's own client: its configuration, agent, jump hosts and host keys are the operator's."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# What cannot be taken for an option, nor for anything that a shell knows.
_DESTINATION: Final = re.compile(r"^([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9\[][A-Za-z0-9.:%\[\]_-]*$")
_CONNECT_S: Final = 15
_MAX_ANSWER_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 16
_STANDARD_ERROR: Final = 2
# What ssh itself exits with where it cannot connect.
_NO_CONNECTION: Final = 255


@dataclass(frozen=True, slots=True)
class Remote:
    """One connection, over which all commands go: whoever types a password for it does so once."""

    destination: str
    _options: tuple[str, ...]

    @classmethod
    @contextmanager
    def connect(cls, destination: str, ssh_config: Path | None = None) -> Iterator[Remote]:
        """Connects, once something is asked of it; raises ConfigError for what is no destination."""
        if not _DESTINATION.match(destination):
            raise ConfigError(f"found {destination!r}, allowed: [USER@]HOST, or a name of ssh's configuration")
        # Short, for a path of a socket is short.
        with tempfile.TemporaryDirectory(prefix="hw-") as folder:
            remote = cls(destination, _options(Path(folder), ssh_config))
            try:
                yield remote
            finally:
                remote.end()

    def ask(self, command: str) -> str:
        """What a command prints; raises FleetError where it fails."""
        with subprocess.Popen(  # noqa: S603 - no shell here; the words for the other one are ours
            self._ssh(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            answer = process.stdout.read(_MAX_ANSWER_BYTES + 1)
            if len(answer) > _MAX_ANSWER_BYTES:
                process.kill()
                raise FleetError(f"{self.destination}: answers with more than {_MAX_ANSWER_BYTES} bytes")
        self._check(process.returncode, command.split(maxsplit=1)[0])
        return answer.decode("utf-8", "replace")

    def send(self, path: Path, place: str, told: Callable[[int], None]) -> None:
        """Puts a file there, for its owner alone; `told` hears how many bytes have gone. Raises FleetError."""
        command = f"umask 077 && cat >{place}"
        with subprocess.Popen(self._ssh(command), stdin=subprocess.PIPE) as process, path.open("rb") as file:  # noqa: S603 - as above
            assert process.stdin is not None
            sent = 0
            try:
                while piece := file.read(_PIECE_BYTES):
                    process.stdin.write(piece)
                    sent += len(piece)
                    told(sent)
                process.stdin.close()
            except BrokenPipeError as exc:
                raise FleetError(f"{self.destination}: the connection ended after {sent} bytes") from exc
        self._check(process.returncode, "copying")

    def run(self, command: str, *, terminal: bool) -> None:
        """Runs a command, which is seen on our standard error; on a terminal sudo may ask for a password there.

        Raises FleetError where it fails.
        """
        stdin = None if terminal else subprocess.DEVNULL
        done = subprocess.run(  # noqa: S603 - as above
            self._ssh(command, *(("-t",) if terminal else ())), stdin=stdin, stdout=_STANDARD_ERROR, check=False
        )
        self._check(done.returncode, "installing")

    def end(self) -> None:
        """Ends the connection."""
        subprocess.run(  # noqa: S603 - as above
            ("ssh", *self._options, "-O", "exit", "--", self.destination),  # noqa: S607 - the operator's own ssh
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

    def _ssh(self, command: str, *more: str) -> Sequence[str]:
        return ("ssh", *self._options, *more, "--", self.destination, command)

    def _check(self, code: int | None, what: str) -> None:
        if code == _NO_CONNECTION:
            raise FleetError(f"{self.destination}: no connection (what ssh says stands above)")
        if code:
            raise FleetError(f"{self.destination}: {what} failed with {code}")


def _options(folder: Path, ssh_config: Path | None) -> tuple[str, ...]:
    options = {
        "ControlMaster": "auto",
        "ControlPath": str(folder / "c"),
        "ControlPersist": "yes",
        "ConnectTimeout": str(_CONNECT_S),
        "ServerAliveInterval": str(_CONNECT_S),
        # An unknown host is asked about, and refused where nobody can answer; a changed one is refused.
        "StrictHostKeyChecking": "ask" if sys.stdin.isatty() else "yes",
        "BatchMode": "no" if sys.stdin.isatty() else "yes",
    }
    file = () if ssh_config is None else ("-F", str(ssh_config))
    return (*file, *(word for name, value in options.items() for word in ("-o", f"{name}={value}")))
