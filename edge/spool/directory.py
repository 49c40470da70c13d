"""The spools in a state directory: the one in use, and those that were set aside."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from edge.errors import CorruptSpoolError
from edge.lane import Lane
from edge.spool.connection import translated
from edge.spool.file import SpoolFile, spool_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge.errors import SpoolError

logger = logging.getLogger(__name__)

_FILE_NAME: Final = re.compile(r"spool-(\d+)\.db")
_SET_ASIDE_SUFFIX: Final = ".corrupt"


def open_spool(directory: Path, max_bytes: int, now_ms: int, min_free_bytes: int = 0) -> SpoolFile:
    """The newest spool in a directory, or a new one; a file that cannot be read is set aside, never an error.

    Raises SpoolError when the directory takes no file at all.
    """
    with translated(directory):
        directory.mkdir(parents=True, exist_ok=True)
        known = sorted((int(found[1]), path) for path in directory.iterdir() if (found := _FILE_NAME.match(path.name)))
    spoilt: list[int] = []
    for epoch, path in reversed(known):
        if path.suffix == ".db":
            try:
                return _remembering(SpoolFile(path, epoch, max_bytes, min_free_bytes), spoilt)
            except CorruptSpoolError as exc:
                set_aside(path, exc)
                spoilt.append(epoch)
    newest = known[-1][0] if known else 0
    epoch = max(now_ms, newest + len(Lane))
    return _remembering(SpoolFile(spool_path(directory, epoch), epoch, max_bytes, min_free_bytes), spoilt)


def _remembering(file: SpoolFile, spoilt: Sequence[int]) -> SpoolFile:
    file.spoilt_since_ms = min(spoilt, default=None)
    return file


def set_aside(path: Path, fault: SpoolError) -> None:
    """Renames a file that cannot be used, and what belongs to it, so that a person can look at it later.

    Raises SpoolError where that cannot be done.
    """
    with translated(path):
        for suffix in ("-wal", "-shm", ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(path.with_name(path.name + _SET_ASIDE_SUFFIX + suffix))
                if part == path:
                    logger.error("%s; set aside as %s%s, a new spool is begun", fault, path.name, _SET_ASIDE_SUFFIX)


def count_set_aside(directory: Path) -> int:
    """How many spools in a directory have been set aside."""
    return sum(1 for path in directory.glob(f"spool-*{_SET_ASIDE_SUFFIX}"))
