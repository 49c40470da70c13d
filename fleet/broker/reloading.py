"""Having the broker read its files again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.broker.connecting import NotLetInError, NotThereError
from fleet.broker.files import PID_FILE
from fleet.broker.witness import has_read
from fleet.errors import FleetError
from fleet.files import only_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.home import Home

logger = logging.getLogger(__name__)

_COMMAND_PATIENCE_S: Final = 60.0
_READ_WITHIN_S: Final = 15.0
# Mosquitto forgets a SIGHUP that comes while it reads for the one before.
_TOLD_AGAIN_AFTER_S: Final = 1.0
_POLL_S: Final = 0.05
_HERE: Final = "127.0.0.1"


def reload(home: Home) -> bool:
    """Whether there is a broker; it then goes by its files as they are. Raises FleetError where it does not."""
    with only_one(home.path / "broker/.reload"):
        tell = _teller(home)
        if tell is None:
            return _goes_by_them_untold(home)
        deadline = time.monotonic() + _READ_WITHIN_S
        while not _has_read(home):
            if time.monotonic() > deadline:
                raise FleetError(
                    f"the broker was told, but for {_READ_WITHIN_S:g} s does not go by its files: see its log"
                )
            tell()
            _wait(home, min(deadline, time.monotonic() + _TOLD_AGAIN_AFTER_S))
    return True


def _goes_by_them_untold(home: Home) -> bool:
    """What `reload` returns where no process is known: one may run all the same, and is asked."""
    if home.settings.broker.directory is None:
        try:
            is_read = has_read(home, _HERE)
        except (NotThereError, NotLetInError):
            pass
        else:
            return _missed(home.path / "broker" / PID_FILE, is_read=is_read)
    logger.warning(
        "no broker is known of that runs on this machine: it reads %s when it starts; of one elsewhere, or in a "
        "container, broker.reload in fleet.yaml is the command that has it read",
        home.path / "broker",
    )
    return False


def _missed(pid_file: Path, *, is_read: bool) -> bool:
    """A second Mosquitto on the same files ends at once, for the port is taken, and deletes the first one's file."""
    why = (
        f"{pid_file} does not name it. One in a container is told by broker.reload in fleet.yaml. A second one that "
        "was started by mistake deletes that file: start the broker again"
    )
    if not is_read:
        raise FleetError(f"the broker runs, goes by older files, and cannot be told: {why}")
    logger.warning("the broker goes by its files, but cannot be told of the next change: %s", why)
    return True


def _wait(home: Home, until_s: float) -> None:
    while time.monotonic() < until_s and not _has_read(home):
        time.sleep(_POLL_S)


def _has_read(home: Home) -> bool:
    try:
        return has_read(home)
    except NotLetInError:
        # It ends, or somebody else of the fleet's tools asks as well.
        return False


def _teller(home: Home) -> Callable[[], None] | None:
    if words := home.settings.broker.reload:
        return lambda: _run(words)
    pid = _pid(home.path / "broker" / PID_FILE)
    return None if pid is None else lambda: _signal(pid)


def _run(words: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_PATIENCE_S, check=False)  # noqa: S603 - the operator's own command
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise FleetError(f"broker.reload: {words[0]}: {exc}") from exc
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        raise FleetError(f"broker.reload: {words[0]} ended with {done.returncode}: {said}")


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as exc:
        raise FleetError(f"the broker, process {pid}, cannot be told to read its files: {exc.strerror}") from exc


def _pid(file: Path) -> int | None:
    """The broker's process; None where it has gone, and somebody else may have its number."""
    try:
        pid = int(file.read_text().strip())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == "mosquitto" else None
