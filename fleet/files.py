"""Files of the operator's directory: whole or not at all, for their owner alone unless said otherwise."""

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
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            Path(half).replace(path)
        except OSError:
            Path(half).unlink(missing_ok=True)
            raise
        _settle(path.parent)
    except OSError as exc:
        raise FleetError(f"{path}: cannot be written: {exc.strerror}") from exc


@contextmanager
def only_one(file: Path) -> Iterator[None]:
    """Keeps other threads and processes that ask for the same out until it ends; they wait. Raises FleetError."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    except OSError as exc:
        raise FleetError(f"{file}: cannot be opened, to be the only one: {exc.strerror}") from exc
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


def _settle(directory: Path) -> None:
    """A new name is durable when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
