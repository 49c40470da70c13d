"""Where Spark puts its temporary files: one place per checkpoint, emptied at every start, for one stream at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from stream.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def scratch_dir(checkpoint: str) -> Iterator[Path]:
    """An empty directory below the system's temporary one, the same for the same checkpoint.

    What a killed run left in it is removed. Raises FatalError while another stream of this machine uses the checkpoint.
    """
    digest = hashlib.sha256(checkpoint.encode()).hexdigest()[:12]
    directory = Path(tempfile.gettempdir()) / f"headwater-stream-{os.geteuid()}-{digest}"
    directory.mkdir(mode=0o700, exist_ok=True)
    _check_ours(directory)
    with (directory / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise FatalError(f"another stream runs with the checkpoint {checkpoint}: stop it first") from exc
        try:
            yield _empty(directory / "spark")
        finally:
            _empty(directory / "spark")


def _check_ours(directory: Path) -> None:
    """Anybody may have made a directory of this name in a place that all may write to."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise FatalError(f"{directory} is not a directory of ours alone: remove it, or set TMPDIR")


def _empty(directory: Path) -> Path:
    # The JVM of a stream that was just killed may still be ending, and writing.
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(exist_ok=True)
    return directory
