"""Files of the operator's directory: whole or not at all, for their owner alone unless said otherwise.

What root makes in somebody's directory, as when a card is flashed by `sudo`, is made his: else neither he nor the
broker that runs as him could read it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


def write_file(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Puts a file there in one step, and durably; raises FleetError."""
    try:
        # Others may not read it, whatever it becomes.
        descriptor, half = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                hand_over(descriptor, path.parent)
                file.write(content)
            put_in_place(Path(half), path)
        except BaseException:  # also Ctrl-C, and a kill, which comes as that: it may be a secret
            Path(half).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise FleetError(f"{path}: cannot be written: {exc.strerror}") from exc


def put_in_place(half: Path, path: Path) -> None:
    """Gives a file that is whole its name, in one step, and durably; raises OSError."""
    _settle(half)
    half.replace(path)
    _settle(path.parent)


def make_folder(path: Path) -> Path:
    """A folder for its owner alone, with those above it, where there is none yet; raises FleetError."""
    try:
        for each in reversed([path, *path.parents]):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)
                descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    hand_over(descriptor, each.parent)
                finally:
                    os.close(descriptor)
    except OSError as exc:
        raise FleetError(f"{path}: cannot be made: {exc.strerror}") from exc
    return path


def open_lock(file: Path) -> int:
    """A descriptor for `flock`, the caller's to close; raises FleetError."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        hand_over(descriptor, file.parent)
    except OSError as exc:
        raise FleetError(f"{file}: cannot be opened, to be the only one: {exc.strerror}") from exc
    return descriptor


@contextmanager
def only_one(file: Path) -> Iterator[None]:
    """Keeps other threads and processes that ask for the same out until it ends; they wait. Raises FleetError."""
    descriptor = open_lock(file)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes:
    """A file's content; raises FleetError."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise FleetError(f"{path}: cannot be read: {exc.strerror}") from exc


def hand_over(descriptor: int, folder: Path) -> None:
    """Gives what root has made to whom the folder belongs that it lies in."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _settle(path: Path) -> None:
    """Has the disk keep a file's content, or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
