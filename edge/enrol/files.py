"""Files that hold secrets: whole or not at all, on the disk before they are believed, and never too large to read."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from edge.enrol.faults import of_disk
from edge.errors import IdentityError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET: Final = 0o600
PUBLIC: Final = 0o644
_MAX_BYTES: Final = 64 * 1024


def read_bounded(path: Path) -> bytes | None:
    """A small file's content, None where there is none; raises IdentityError."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise of_disk(f"{path} cannot be read", exc) from exc
    if len(content) > _MAX_BYTES:
        raise IdentityError(f"{path} is over {_MAX_BYTES} bytes: it is not what it should be")
    return content


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Writes a new file in a directory that nobody reads yet; it is on the disk afterwards. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, SECRET)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)


def replace_file(path: Path, content: bytes, like: os.stat_result) -> None:
    """Puts a file in the place of another, in one step, its owner and mode `like` the other's. Raises OSError."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.unlink(missing_ok=True)
    try:
        write_file(half, content, SECRET)
        if os.geteuid() == 0:
            os.chown(half, like.st_uid, like.st_gid)
        half.chmod(like.st_mode & 0o777)
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Has the names in a directory on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def acting_as_owner_of(directory: Path) -> Iterator[None]:
    """As root, does what is within as whoever owns a directory, or the nearest above it that is there.

    The agent can then read what is written; and root follows no link that others have laid.
    """
    found = directory
    while not found.exists():
        found = found.parent
    owner = found.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
