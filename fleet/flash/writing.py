"""The order in which a card is written, so that a power cut at any point leaves one that does not boot half-written.

The first sector, without which nothing on a card is found, is emptied at first and written at last, when everything
behind it has been read back from the medium. The boot partition is prepared in a file of this machine and not on the
card: what is put on the card is known byte for byte, and a damaged image is found out before most of it is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError
from fleet.flash import fat
from fleet.flash.image import CHUNK_BYTES
from fleet.flash.partitions import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from fleet.flash.fat import FatVolume
    from fleet.flash.image import Image
    from fleet.flash.progress import Progress
    from fleet.flash.target import Target

# The sectors beside the first are written with it, for some cards write no less; they are what they were before.
_FIRST_BYTES: Final = 4096
# So much is written before it is waited for: else the last bytes would take minutes, and a Ctrl-C as long.
_SYNC_BYTES: Final = 64 << 20
_MAX_BOOT_BYTES: Final = 8 << 30
_NOTHING: Final = bytes(CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class Written:
    """What is on the target now."""

    size_bytes: int
    sha256: str


class _Copy:
    """Bytes on their way to a target, one behind the other, counted and digested."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._digest = hashlib.sha256()
        self._unsynced = 0
        self.position = 0

    def skip(self, data: bytes) -> None:
        """Counts them, and leaves their writing to somebody else."""
        self._digest.update(data)
        self.position += len(data)

    def put(self, data: bytes) -> None:
        """Writes them behind what was put before."""
        if self.position + len(data) > self._target.room_bytes:
            raise FleetError(f"the image is larger than the {self._target.room_bytes} bytes that there is room for")
        self._target.write(self.position, data)
        self.skip(data)
        self._unsynced += len(data)
        if self._unsynced >= _SYNC_BYTES:
            self._target.sync()
            self._unsynced = 0

    @property
    def written(self) -> Written:
        return Written(self.position, self._digest.hexdigest())


def write_card(
    image: Image,
    target: Target,
    prepare: Callable[[BinaryIO, FatVolume], None],
    progress: Progress,
    sha256: str | None = None,
) -> Written:
    """Writes an image, its boot partition changed by `prepare`; raises FleetError for whatever goes wrong.

    `prepare` gets the boot partition in a file, and what `fat.check` says of it; `sha256` is the image file's.
    """
    if image.table.end > target.room_bytes:
        raise FleetError(f"the image has {image.table.end} bytes, and there is room for {target.room_bytes}")
    target.write(0, bytes(_FIRST_BYTES))
    target.sync()
    boot = image.table.boot
    copy = _Copy(target)
    # Of what is on the card, and not of what is read: an image's end, which is empty, is packed to next to nothing.
    with progress.phase("writing", image.table.end) as advance:
        first = b"".join(image.read(SECTOR_BYTES))
        copy.skip(first)
        _put_all(image.read(boot.start), copy, advance)
        with staged_boot(image, prepare) as stage:
            _put_all(_pieces(stage, boot.size_bytes), copy, advance)
        _put_all(image.rest(), copy, advance)
        target.sync()
    if sha256 is not None and image.file_sha256 != sha256.lower():
        raise FleetError(f"the image's file has the SHA-256 {image.file_sha256}, and not {sha256}")
    written = copy.written
    _complete(target, first, written, progress)
    return written


def _put_all(pieces: Iterable[bytes], copy: _Copy, advance: Callable[[int], None]) -> None:
    for piece in pieces:
        copy.put(piece)
        advance(copy.position)


@contextlib.contextmanager
def staged_boot(image: Image, prepare: Callable[[BinaryIO, FatVolume], None]) -> Iterator[BinaryIO]:
    """The image's boot partition, the next in it, in a file without a name, prepared; raises FleetError."""
    boot = image.table.boot
    if boot.size_bytes > _MAX_BOOT_BYTES:
        raise FleetError(f"the image's boot partition has {boot.size_bytes} bytes; {_MAX_BOOT_BYTES} are allowed")
    with tempfile.TemporaryFile() as stage:
        try:
            _fill(stage, image)
        except OSError as exc:
            raise FleetError(f"{tempfile.gettempdir()}: {exc.strerror}; $TMPDIR names another place") from exc
        prepare(stage, _checked(stage, boot.size_bytes))
        _checked(stage, boot.size_bytes)
        yield stage


def _fill(stage: BinaryIO, image: Image) -> None:
    for piece in image.read(image.table.boot.end):
        # What holds nothing takes no place.
        if _NOTHING.startswith(piece):
            stage.seek(len(piece), os.SEEK_CUR)
        else:
            stage.write(piece)
    stage.truncate(image.table.boot.size_bytes)
    stage.flush()


def _checked(stage: BinaryIO, size_bytes: int) -> FatVolume:
    return fat.check(lambda offset, length: os.pread(stage.fileno(), length, offset), size_bytes)


def _pieces(stage: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    """What is in the file, whatever position it has: others wrote to it by descriptors of their own."""
    for offset in range(0, size_bytes, CHUNK_BYTES):
        yield os.pread(stage.fileno(), min(CHUNK_BYTES, size_bytes - offset), offset)


def _complete(target: Target, first: bytes, written: Written, progress: Progress) -> None:
    """Reads all of it back, and then writes what was held back; raises FleetError where something else is there."""
    digest = hashlib.sha256(first)
    beside = b""
    position = 0
    with progress.phase("checking", written.size_bytes) as advance:
        for piece in target.read_back(written.size_bytes):
            if not position:
                beside = bytes(piece[SECTOR_BYTES:_FIRST_BYTES])
                digest.update(piece[SECTOR_BYTES:])
            else:
                digest.update(piece)
            position += len(piece)
            advance(position)
    if (position, digest.hexdigest()) != (written.size_bytes, written.sha256):
        raise FleetError("what was written is not what is there when it is read back: the card or its reader is broken")
    target.write(0, first + beside)
    target.sync()
    if b"".join(map(bytes, target.read_back(min(_FIRST_BYTES, written.size_bytes)))) != first + beside:
        raise FleetError("the first sector is not what was written: the card or its reader is broken")
