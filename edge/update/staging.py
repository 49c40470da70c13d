"""What is fetched of an update, on the disk: chunk after chunk, each checked, to go on with after any interruption."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from edge.errors import UpdateError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from contract.update import Desired

_PART: Final = ".part"


class Staging:
    """The files that are being fetched, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, desired: Desired) -> Path:
        """Where its content gathers; what has the same SHA-256 is the same."""
        return self.directory / f"{desired.sha256}{_PART}"

    def resume(self, desired: Desired) -> int:
        """How many chunks are there and good; whatever follows them is cut off. Raises UpdateError."""
        path, count = self.path(desired), 0
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                file.seek(0)
                for number, digest in enumerate(desired.chunks):
                    if _digest(file.read(desired.chunk_size(number))) != digest:
                        break
                    count += 1
                file.truncate(min(count * desired.chunk_bytes, desired.size))
        except OSError as exc:
            raise UpdateError(f"{path}: cannot be kept: {exc.strerror}") from exc
        return count

    def append(self, desired: Desired, number: int, chunk: bytes) -> None:
        """Keeps the next chunk. Raises UpdateError for one that is not what it should be, OSError by a full disk."""
        if len(chunk) != desired.chunk_size(number) or _digest(chunk) != desired.chunks[number]:
            raise UpdateError(f"chunk {number} is not what was signed: {len(chunk)} bytes of another SHA-256")
        with self.path(desired).open("r+b") as file:
            file.seek(number * desired.chunk_bytes)
            file.write(chunk)

    def complete(self, desired: Desired) -> Path:
        """The whole, checked as such; raises UpdateError where it is not what was signed."""
        path = self.path(desired)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != desired.sha256:
            self.discard(desired)
            raise UpdateError("its chunks are good, but the whole is not what was signed")
        return path

    def discard(self, desired: Desired) -> None:
        """It is needed no longer."""
        self.path(desired).unlink(missing_ok=True)

    def prune(self, wanted: Collection[Desired]) -> None:
        """Deletes what is wanted no more."""
        if not self.directory.is_dir():
            return
        names = {self.path(desired).name for desired in wanted}
        for path in self.directory.iterdir():
            if path.name not in names:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def free_bytes(directory: Path) -> int:
    """What a directory's disk has free for us, the nearest above it that is there counting."""
    while not directory.exists():
        directory = directory.parent
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
