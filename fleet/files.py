"""Files of the operator's directory: whole or not at all, for their owner alone unless said otherwise."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


def write_file(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Puts a file there in one step, and durably; raises FleetError."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.unlink(missing_ok=True)
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
        _settle(path.parent)
    except OSError as exc:
        raise FleetError(f"{path}: cannot be written: {exc.strerror}") from exc


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
