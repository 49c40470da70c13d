"""An image, plain or packed, as a stream: never whole in memory, and what it says about itself is not believed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError
from fleet.flash.partitions import TABLE_BYTES, read_table
from fleet.flash.unpack import PIECE_BYTES, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

CHUNK_BYTES: Final = 4 << 20
# What images have behind their last partition: a second GPT, and what rounds them up.
_MAX_REST_BYTES: Final = 64 << 20


class Image:
    """An image, read once from its first byte to its last; `table` is its partition table.

    Reading raises FleetError where the image is damaged, ends inside a partition, or goes on far behind the last.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._pieces = unpacked(self._read_file)
        self._pending = memoryview(b"")
        self.position = 0
        head = self._take(TABLE_BYTES)
        self.table = read_table(head)
        self._pending = memoryview(head + self._pending)
        self.position = 0

    @property
    def file_sha256(self) -> str:
        """Digest of the file as it was downloaded, of so much as has been read of it."""
        return self._digest.hexdigest()

    def read(self, until: int) -> Iterator[bytes]:
        """Its bytes from where it stands to `until`, in pieces of at most CHUNK_BYTES."""
        while self.position < until:
            piece = self._take(min(CHUNK_BYTES, until - self.position))
            if not piece:
                raise FleetError(
                    f"the image ends at byte {self.position}, its partitions at {self.table.end}: it is not whole"
                )
            yield piece

    def rest(self) -> Iterator[bytes]:
        """Its bytes from where it stands to its end."""
        yield from self.read(self.table.end)
        while piece := self._take(CHUNK_BYTES):
            if self.position > self.table.end + _MAX_REST_BYTES:
                raise FleetError(f"the image goes on for over {_MAX_REST_BYTES >> 20} MiB behind its last partition")
            yield piece

    def _take(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            if not self._pending:
                self._pending = memoryview(next(self._pieces, b""))
            if not self._pending:
                break
            part = self._pending[: size - len(taken)]
            self._pending = self._pending[len(part) :]
            taken += part
        self.position += len(taken)
        return bytes(taken)

    def _read_file(self) -> bytes:
        try:
            piece = self._file.read(PIECE_BYTES)
        except OSError as exc:
            raise FleetError(f"the image cannot be read on: {exc.strerror}") from exc
        self._digest.update(piece)
        return piece


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image]:
    """The image in a file; raises FleetError for one that cannot be read or is none."""
    try:
        file = path.open("rb")
    except OSError as exc:
        raise FleetError(f"{path}: cannot be read: {exc.strerror}") from exc
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FleetError(f"{path}: an image is a file")
        yield Image(file)
