"""What a process that the agent started does first: it dies with the agent, stands back, stays within its memory."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with(parent_pid: int) -> None:
    """Have the kernel kill us when the agent dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it was already dead before the line above
        sys.exit(1)


def stand_back(nice: int, data_bytes: int) -> None:
    """A lower priority, and so much more memory than is held now: what goes past it fails, with what needs it."""
    os.nice(nice)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        held_bytes = int(status.partition("VmData:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return  # no Linux
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held_bytes + data_bytes, hard))
