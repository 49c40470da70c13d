"""Room for an update: what a disk has free beside what the readings' spool may yet need of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edge.errors import NotNowError

if TYPE_CHECKING:
    from pathlib import Path

    from edge.update.kinds import Updated


async def check_room(host: Updated, directory: Path, size_bytes: int) -> None:
    """Raises NotNowError where a directory has no room for so much; the spool comes first on its disk."""
    shares_disk = _there(directory).stat().st_dev == _there(host.config.state_dir).stat().st_dev
    room_bytes = await host.room_bytes() if shares_disk else free_bytes(directory)
    if room_bytes < size_bytes:
        beside = " beside what the spool may yet need" if shares_disk else ""
        raise NotNowError(f"{directory}: the disk has no room for {size_bytes} bytes{beside}")


def free_bytes(directory: Path) -> int:
    """What a directory's disk has free for us."""
    found = os.statvfs(_there(directory))
    return found.f_bavail * found.f_frsize


def _there(directory: Path) -> Path:
    """The nearest that is there: it, or one above it."""
    directory = directory.absolute()
    while not directory.exists():
        directory = directory.parent
    return directory
