"""What is flashed: a file, which is there whole or not at all, or a block device, which only we hold meanwhile."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import stat
from typing import TYPE_CHECKING, Final, Protocol

from fleet.errors import FleetError
from fleet.flash.devices import describe
from fleet.flash.image import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.flash.devices import Device, Machine

# What is left on the disk that a file is flashed to.
_SPARE_BYTES: Final = 256 << 20
_BLOCK_BYTES: Final = 4096


class Target(Protocol):
    """Where an image goes."""

    @property
    def room_bytes(self) -> int:
        """So much fits."""

    def write(self, offset: int, data: bytes) -> None:
        """Puts bytes there; they are on the medium only after `sync`."""

    def sync(self) -> None:
        """Returns when all that was written is on the medium."""

    def read_back(self, size_bytes: int) -> Iterator[memoryview]:
        """Its first bytes as the medium has them, in pieces; a piece is good until the next."""


class Opened:
    """A target that is an open file."""

    def __init__(self, descriptor: int, room_bytes: int) -> None:
        self._descriptor = descriptor
        self.room_bytes = room_bytes

    def write(self, offset: int, data: bytes) -> None:
        """As `Target` has it."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            offset, rest = offset + written, rest[written:]

    def sync(self) -> None:
        """As `Target` has it."""
        os.fsync(self._descriptor)

    def read_back(self, size_bytes: int) -> Iterator[memoryview]:
        """As `Target` has it."""
        # Drops what is in memory, where the system minds; a device is read by O_DIRECT.
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        yield from _read(self._descriptor, size_bytes)


class OpenedDevice(Opened):
    """A block device: read back past the memory, from the medium."""

    def read_back(self, size_bytes: int) -> Iterator[memoryview]:
        """As `Target` has it."""
        # What is open, opened once more: its name may be another device's by now.
        descriptor = os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            yield from _read(descriptor, size_bytes)
        finally:
            os.close(descriptor)


def _read(descriptor: int, size_bytes: int) -> Iterator[memoryview]:
    # Anonymous memory begins at a page's beginning, as O_DIRECT wants it.
    with mmap.mmap(-1, CHUNK_BYTES) as buffer, memoryview(buffer) as view:
        offset = 0
        while offset < size_bytes:
            wanted = min(CHUNK_BYTES, -(-(size_bytes - offset) // _BLOCK_BYTES) * _BLOCK_BYTES)
            with view[:wanted] as piece:
                count = min(os.preadv(descriptor, [piece], offset), size_bytes - offset)
            if not count:
                return
            with view[:count] as piece:
                yield piece
            offset += count


def check_file(path: Path, *, replace: bool) -> None:
    """Raises FleetError where `file_target` could not make this file."""
    if path.is_dir():
        raise FleetError(f"{path}: is a directory; allowed are a disk, such as /dev/sdb, and a file to make")
    if path.exists() and not (replace and path.is_file()):
        raise FleetError(f"{path}: is there already; --force replaces a file")
    if not path.parent.is_dir():
        raise FleetError(f"{path}: there is no directory {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise FleetError(f"{path}: you may not write into {path.parent}")


def check_device(device: Device, *, force: bool) -> None:
    """Raises FleetError where `device_target` should not, or could not, write to it."""
    refusals = list(device.refusals(force=force))
    if not os.access(device.path, os.R_OK | os.W_OK):
        refusals.append(f"you may not write to it: `sudo chown $USER {device.path}`")
    if refusals:
        raise FleetError("; ".join(f"{device.path}: {refusal}" for refusal in refusals))


@contextlib.contextmanager
def file_target(path: Path, *, replace: bool) -> Iterator[Target]:
    """A new file; it bears its name when the context is left without an exception, else nothing is left of it."""
    check_file(path, replace=replace)
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    # It will hold a token or a key.
    descriptor = os.open(half, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield Opened(descriptor, shutil.disk_usage(half.parent).free - _SPARE_BYTES)
        # Minutes have gone, in which somebody else may have made one.
        check_file(path, replace=replace)
        half.rename(path)
        _sync_folder(path.parent)
    finally:
        os.close(descriptor)
        half.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def device_target(looked_at: Device, machine: Machine) -> Iterator[Target]:
    """The block device that was looked at, held so that nobody mounts it meanwhile.

    Raises FleetError where it is mounted or used, and where its name is another device's by now.
    """
    path = looked_at.path
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as exc:
        why = "it is mounted, or another program holds it" if exc.errno == errno.EBUSY else exc.strerror
        raise FleetError(f"{path}: cannot be opened: {why}") from exc
    try:
        _check_same(descriptor, looked_at, machine)
        yield OpenedDevice(descriptor, looked_at.size_bytes)
    finally:
        os.close(descriptor)


def _check_same(descriptor: int, looked_at: Device, machine: Machine) -> None:
    """Nothing can take the opened one's place any more."""
    opened = os.fstat(descriptor)
    try:
        is_same = (
            stat.S_ISBLK(opened.st_mode)
            and describe(looked_at.path, opened.st_rdev, machine) == looked_at
            and os.lseek(descriptor, 0, os.SEEK_END) == looked_at.size_bytes
        )
    except OSError:
        is_same = False  # it has been pulled
    if not is_same:
        raise FleetError(f"{looked_at.path}: is no longer the device that was looked at: was a card changed?")
