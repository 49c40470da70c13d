"""What is fetched of an update, on the disk: chunk after chunk, each checked, to go on with after any interruption."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from edge.errors import NotNowError, UpdateError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from contract.update import Desired

_PART: Final = ".part"


class BadChunkError(UpdateError):
    """A chunk is not what was signed: what lies there is wrong, or it was spoilt on its way."""


class Staging:
    """The files that are being fetched, in a directory of their own. What its disk does not do is an OSError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, desired: Desired) -> Path:
        """Where its content gathers; what has the same SHA-256 is the same."""
        return self.directory / f"{desired.sha256}{_PART}"

    def resume(self, desired: Desired) -> int:
        """How many chunks are there and good; raises NotNowError where the disk fails.

        Of the next one a beginning is kept, if it comes from a URL: in pieces, which nothing but the whole can show to
        be good. All else that follows is cut off.
        """
        path, count = self.path(desired), 0
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                file.seek(0)
                for number, digest in enumerate(desired.chunks):
                    if _digest(file.read(desired.chunk_size(number))) != digest:
                        break
                    count += 1
                good_bytes = min(count * desired.chunk_bytes, desired.size)
                rest_bytes = file.seek(0, os.SEEK_END) - good_bytes
                if desired.url is None or rest_bytes >= desired.chunk_size(count):
                    file.truncate(good_bytes)
        except OSError as exc:
            raise NotNowError(f"{path}: cannot be kept: {exc.strerror}") from exc
        return count

    def begun(self, desired: Desired, number: int) -> bytes:
        """What is there of a chunk, if all before it are."""
        with self.path(desired).open("rb") as file:
            file.seek(number * desired.chunk_bytes)
            return file.read(desired.chunk_size(number))

    def keep(self, desired: Desired, number: int, offset: int, piece: bytes) -> None:
        """Keeps a piece of a chunk, not knowing whether it is good."""
        with self.path(desired).open("r+b") as file:
            file.seek(number * desired.chunk_bytes + offset)
            file.write(piece)

    def append(self, desired: Desired, number: int, chunk: bytes) -> None:
        """Keeps the next chunk; raises BadChunkError for one that is not what it should be, and keeps nothing of it."""
        if len(chunk) != desired.chunk_size(number) or _digest(chunk) != desired.chunks[number]:
            os.truncate(self.path(desired), number * desired.chunk_bytes)
            raise BadChunkError(f"chunk {number} is not what was signed: {len(chunk)} bytes of another SHA-256")
        self.keep(desired, number, 0, chunk)

    def complete(self, desired: Desired) -> Path:
        """The whole, checked as such; raises UpdateError where it is not what was signed.

        What the disk has spoilt is cut off, and is a NotNowError.
        """
        path = self.path(desired)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != desired.sha256:
            if self.resume(desired) < len(desired.chunks):
                raise NotNowError(f"{path}: the disk has not kept what was written")
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


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
