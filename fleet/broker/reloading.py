"""Having the broker read its files again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.broker.files import PID_FILE
from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.home import Home

logger = logging.getLogger(__name__)

_PATIENCE_S: Final = 60.0


def reload(home: Home) -> bool:
    """Whether the broker was told to read its files again; raises FleetError where its command fails."""
    if words := home.settings.broker.reload:
        _run(words)
        return True
    pid = _pid(home.path / "broker" / PID_FILE)
    if pid is None:
        logger.warning("the broker does not run here: it reads its files when it starts (broker.reload in fleet.yaml?)")
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as exc:
        raise FleetError(f"the broker, process {pid}, cannot be told to read its files: {exc.strerror}") from exc
    return True


def _run(words: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603 - the operator's own command
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise FleetError(f"broker.reload: {words[0]}: {exc}") from exc
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        raise FleetError(f"broker.reload: {words[0]} ended with {done.returncode}: {said}")


def _pid(file: Path) -> int | None:
    """The broker's process; None where it has gone, and somebody else may have its number."""
    try:
        pid = int(file.read_text().strip())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == "mosquitto" else None
