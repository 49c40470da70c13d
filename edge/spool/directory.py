"""The spools in a state directory: the one in use, and those that were set aside.

A file that cannot be used becomes `*.wrecked`; once what can be read of it is in the spool, it is kept for a person to
look at, as `*.salvaged` when that was all, else as `*.corrupt`.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from edge.errors import CorruptSpoolError, SpoolError
from edge.lane import Lane
from edge.spool.connection import translated
from edge.spool.file import FileLimits, SpoolFile, spool_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

_FILE_NAME: Final = re.compile(r"spool-(\d{1,18})\.db(\.wrecked|\.corrupt|\.salvaged)?")
_WRECKED: Final = ".wrecked"
_PARTS: Final = ("-wal", "-shm", "")
_MOST_FINISHED: Final = 3


def open_spool(directory: Path, limits: FileLimits, now_ms: int, boot_id: str = "") -> SpoolFile:
    """The newest spool in a directory, or a new one; a file that cannot be read is set aside, never an error.

    Raises SpoolError when the directory takes no file at all.
    """
    with translated(directory):
        directory.mkdir(parents=True, exist_ok=True)
    known = sorted((epoch, path) for epoch, path, _ in _files(directory))
    for epoch, path in reversed(known):
        if path.suffix == ".db":
            try:
                return SpoolFile(path, epoch, limits, boot_id)
            except CorruptSpoolError as exc:
                set_aside(path, exc)
    newest = known[-1][0] if known else 0
    epoch = max(now_ms, newest + len(Lane))
    return _made(spool_path(directory, epoch), epoch, limits, boot_id)


def _made(path: Path, epoch: int, limits: FileLimits, boot_id: str) -> SpoolFile:
    try:
        return SpoolFile(path, epoch, limits, boot_id, is_new=True)
    except SpoolError:
        # An empty file would pass for one that was spoilt.
        for suffix in _PARTS:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        raise


def set_aside(path: Path, fault: SpoolError) -> None:
    """Renames a file that cannot be used, and what belongs to it; raises SpoolError where that cannot be done."""
    if not path.exists():
        return
    logger.error("%s; set aside as %s%s, a new spool is begun", fault, path.name, _WRECKED)
    _rename(path, _WRECKED)


def wrecks(directory: Path) -> list[tuple[str, int]]:
    """The names of the files that are still to be salvaged, and their epochs, the oldest first; raises SpoolError."""
    return sorted((path.name, epoch) for epoch, path, kind in _files(directory) if kind == _WRECKED)


def finish(wreck: Path, *, complete: bool) -> None:
    """Marks a file as salvaged; raises SpoolError where that cannot be done."""
    _rename(wreck.with_name(wreck.name.removesuffix(_WRECKED)), ".salvaged" if complete else ".corrupt", _WRECKED)


def prune(directory: Path, keep_bytes: int) -> None:
    """Deletes the oldest of the files that have been salvaged, but for the last few; raises SpoolError."""
    with translated(directory):
        finished = sorted((epoch, path) for epoch, path, kind in _files(directory) if kind not in {None, _WRECKED})
        room_bytes = keep_bytes
        for count, (_, path) in enumerate(reversed(finished)):
            room_bytes -= path.stat().st_size
            if count >= _MOST_FINISHED or room_bytes < 0:
                logger.warning("%s is deleted: it was set aside long ago, and others since", path)
                for suffix in _PARTS:
                    path.with_name(path.name + suffix).unlink(missing_ok=True)


def count_set_aside(directory: Path) -> int:
    """How many spools in a directory have been set aside."""
    return sum(1 for _, _, kind in _files(directory) if kind is not None)


def _files(directory: Path) -> Iterator[tuple[int, Path, str | None]]:
    """Of each spool in a directory its epoch, and what has become of it; none for one that is in order."""
    with translated(directory):
        for path in directory.iterdir():
            if (found := _FILE_NAME.fullmatch(path.name)) is not None:
                yield int(found[1]), path, found[2]


def _rename(path: Path, suffix: str, former: str = "") -> None:
    with translated(path):
        for part in _PARTS:
            known = path.with_name(path.name + former + part)
            if known.exists():
                known.rename(path.with_name(path.name + suffix + part))
