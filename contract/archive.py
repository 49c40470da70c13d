"""The archives of updates: gzip'd tar (ustar) of directories and plain files, and nothing else.

What is unpacked is signed, and read strictly all the same: no name leads out of the directory, there is no link, no
device, no header that the plain format does not have, and neither the number nor the size of files exceeds what was
declared. A reader of few rules is easier to trust than one that repairs what it finds.
"""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Final

from contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_MEMBERS: Final = 50_000
_MAX_DEPTH: Final = 32
_BLOCK: Final = 512
# What tar writes after its end, at most: zeros up to a whole record.
_MAX_PADDING: Final = 1 << 16
_PIECE_BYTES: Final = 1 << 18
_FILE_MODE: Final = 0o644
_PROGRAM_MODE: Final = 0o755
_EXECUTABLE: Final = 0o100
# A part of a path: printable ASCII but slash and backslash, and not all dots.
_PART: Final = re.compile(r"(?!\.{1,2}$)[\x20-\x2e\x30-\x5b\x5d-\x7e]{1,100}")


class ArchiveError(ContractError):
    """An archive that is not what it should be; the message says what in it, and what is allowed."""


def pack(directory: Path, file: IO[bytes]) -> int:
    """Writes all that is in a directory, the same bytes for the same content; returns what its files take unpacked.

    Raises ArchiveError for what an archive of ours may not hold: links, devices, names that are too long.
    """
    unpacked_bytes = 0
    with (
        # Neither its name nor when it was made: the same content is the same update.
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ArchiveError(f"{path}: is neither a directory nor a plain file")
            member = _described(path, name)
            _checked_parts(member.name, str(path))
            try:
                if path.is_dir():
                    tar.addfile(member)
                    continue
                with path.open("rb") as content:
                    tar.addfile(member, content)
            except ValueError as exc:
                raise ArchiveError(f"{path}: its name is too long for an archive: {exc}") from exc
            unpacked_bytes += member.size
    return unpacked_bytes


def unpack(file: IO[bytes], directory: Path, max_bytes: int, max_members: int = MAX_MEMBERS) -> None:
    """Unpacks into a directory that is there and empty; raises ArchiveError, or OSError where the disk fails.

    What is on the disk by then stays for the caller to delete. All that was written is flushed to the disk.
    """
    made: set[PurePosixPath] = set()
    directories: set[PurePosixPath] = set()
    left = max_bytes
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as unzipped:
            for member in _members(unzipped, max_members):
                path = PurePosixPath(*_checked_parts(member.name, member.name))
                if path in made:
                    raise ArchiveError(f"{member.name}: is there twice")
                made.add(path)
                # A path names all the directories above it, and each takes room that no bytes declare.
                directories.update(path.parents[:-1])
                if len(directories) > max_members:
                    raise ArchiveError(f"has more than {max_members} directories")
                if member.isdir():
                    (directory / path).mkdir(parents=True, exist_ok=True)
                    continue
                left -= member.size
                if left < 0:
                    raise ArchiveError(f"{member.name}: with it there are more than the {max_bytes} bytes declared")
                _write(unzipped, member, directory / path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise ArchiveError(f"is no whole gzip file: {exc}") from exc
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as exc:
        raise ArchiveError(f"{exc.filename}: is a file and a directory") from exc
    flush_tree(directory)


def flush_tree(directory: Path) -> None:
    """Flushes all that is in a directory to the disk; at the end, since what is flushed first takes most with it."""
    for place, _, files in os.walk(directory):
        for name in files:
            _flush(os.path.join(place, name), os.O_RDONLY)  # noqa: PTH118 - as os.walk has it
        flush_directory(place)


def flush_directory(directory: Path | str) -> None:
    """Flushes the entries of a directory to the disk: what was renamed in it stays so through a power cut."""
    _flush(directory, os.O_RDONLY | os.O_DIRECTORY)


def _flush(path: Path | str, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _described(path: Path, name: str) -> tarfile.TarInfo:
    found = path.stat()
    member = tarfile.TarInfo(name)
    if path.is_dir():
        member.type, member.mode = tarfile.DIRTYPE, _PROGRAM_MODE
        return member
    member.size = found.st_size
    member.mode = _PROGRAM_MODE if found.st_mode & _EXECUTABLE else _FILE_MODE
    return member


def _members(unzipped: gzip.GzipFile, max_members: int) -> Iterator[tarfile.TarInfo]:
    """The headers; whoever takes one of a file reads its content before the next."""
    for count in range(max_members + 1):
        block = _exactly(unzipped, _BLOCK)
        if not any(block):
            _check_end(unzipped)
            return
        if count == max_members:
            break
        try:
            member = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, ValueError) as exc:
            raise ArchiveError(f"member {count + 1}: its header cannot be read: {exc}") from exc
        if not (member.isdir() or member.type in {tarfile.REGTYPE, tarfile.AREGTYPE}):
            raise ArchiveError(f"{member.name!r}: is of type {member.type!r}: allowed are directories and plain files")
        if member.size < 0 or (member.isdir() and member.size):
            raise ArchiveError(f"{member.name!r}: cannot be of {member.size} bytes")
        yield member
    raise ArchiveError(f"has more than {max_members} members")


def _check_end(unzipped: gzip.GzipFile) -> None:
    """After the first block of zeros there is nothing but more of them."""
    rest = unzipped.read(_MAX_PADDING + 1)
    if len(rest) > _MAX_PADDING or any(rest):
        raise ArchiveError("has something behind its end")


def _checked_parts(name: str, origin: str) -> list[str]:
    parts = name.removesuffix("/").split("/")
    if len(parts) > _MAX_DEPTH or not all(map(_PART.fullmatch, parts)):
        raise ArchiveError(f"{origin!r}: is no path inside of the archive: allowed are parts of printable ASCII")
    return parts


def _write(unzipped: gzip.GzipFile, member: tarfile.TarInfo, path: Path) -> None:
    """The content of a file that is not there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        left = member.size
        while left:
            piece = _exactly(unzipped, min(left, _PIECE_BYTES))
            target.write(piece)
            left -= len(piece)
    path.chmod(_PROGRAM_MODE if member.mode & _EXECUTABLE else _FILE_MODE)
    _exactly(unzipped, -member.size % _BLOCK)


def _exactly(unzipped: gzip.GzipFile, size: int) -> bytes:
    found = unzipped.read(size)
    if len(found) < size:
        raise ArchiveError("ends too early")
    return found
