"""A Debian package: an `ar` archive of two tar archives, which needs no tool of Debian's to be written.

A version and its libraries are in it as an archive of their own, which `postinst` unpacks: dpkg would write as root
into directories of the agent's, and delete the version that runs before the next one is there.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Final

from fleet.bundle.stage import device_file

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.bundle.target import Target

_SCRIPTS: Final = ("postinst", "postrm", "prerm")
_KIB: Final = 1024
_PRIVATE: Final = 0o700
_EXECUTABLE: Final = 0o100
_CONTROL: Final = """\
Package: headwater-edge
Version: {version}
Architecture: {arch}
Maintainer: Headwater <headwater@localhost>
Installed-Size: {size_kib}
Depends: {depends}
Section: net
Priority: optional
Description: Headwater edge agent
 Polls PLCs, web APIs and cameras, keeps what it reads through any outage and
 delivers it to a broker. Brings its own Python libraries.
"""


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory, and where what is in it belongs."""

    source: Path
    place: str
    private: bool = False


def write_package(
    file: IO[bytes], version: str, target: Target, trees: tuple[Tree, ...], payload_bytes: int, scratch: Path
) -> int:
    """Writes a package, the same bytes for the same content; returns what its files take unpacked.

    `payload_bytes` is what `postinst` will unpack.
    """
    # Not compressed: nearly all of it is an archive that is.
    with TemporaryFile(dir=scratch) as data:
        sums, size_bytes = _write_data(data, trees)
        unpacked_bytes = size_bytes + payload_bytes
        file.write(b"!<arch>\n")
        _add(file, "debian-binary", io.BytesIO(b"2.0\n"))
        _add(file, "control.tar", io.BytesIO(_control(version, target, unpacked_bytes, sums)))
        _add(file, "data.tar", data)
    return unpacked_bytes


def depends(target: Target) -> str:
    """What must be there: this Python and no other, and what PyPI has no wheels of."""
    major, minor = target.python.split(".")
    own = (
        f"python3 (>= {target.python})",
        f"python3 (<< {major}.{int(minor) + 1})",
        f"libc6 (>= {target.glibc})",
        "passwd",
        "tzdata",
        "util-linux",
    )
    return ", ".join((*own, *sorted(target.from_debian().values())))


def _control(version: str, target: Target, unpacked_bytes: int, sums: str) -> bytes:
    text = _CONTROL.format(
        version=version, arch=target.arch, size_kib=-(-unpacked_bytes // _KIB), depends=depends(target)
    )
    packed = io.BytesIO()
    with _opened(packed) as tar:
        _put(tar, "./control", text.encode(), 0o644)
        _put(tar, "./md5sums", sums.encode(), 0o644)
        for name in _SCRIPTS:
            _put(tar, f"./{name}", device_file(name), 0o755)
    return packed.getvalue()


def _write_data(file: IO[bytes], trees: tuple[Tree, ...]) -> tuple[str, int]:
    sums, unpacked_bytes, directories = [], 0, set[str]()
    with _opened(file) as tar:
        for tree in trees:
            _put_directories(tar, PurePosixPath(tree.place).parent, directories, private=False)
            _put_directories(tar, PurePosixPath(tree.place), directories, private=tree.private)
            for path in sorted(tree.source.rglob("*")):
                place = PurePosixPath(tree.place) / path.relative_to(tree.source).as_posix()
                if path.is_dir():
                    _put_directories(tar, place, directories, private=tree.private)
                    continue
                _put_directories(tar, place.parent, directories, private=tree.private)
                content = path.read_bytes()
                mode = 0o600 if tree.private else 0o755 if path.stat().st_mode & _EXECUTABLE else 0o644
                _put(tar, f"./{place}", content, mode)
                sums.append(f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  {place}\n")
                unpacked_bytes += len(content)
    return "".join(sums), unpacked_bytes


def _put_directories(tar: tarfile.TarFile, place: PurePosixPath, made: set[str], *, private: bool) -> None:
    for directory in (*reversed(place.parents), place):
        if str(directory) in made:
            continue
        made.add(str(directory))
        member = tarfile.TarInfo("./" if str(directory) == "." else f"./{directory}/")
        member.type = tarfile.DIRTYPE
        member.mode = _PRIVATE if private else 0o755
        tar.addfile(_of_root(member))


def _put(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(_of_root(member), io.BytesIO(content))


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uname = member.gname = "root"
    return member


def _opened(file: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)


def _add(file: IO[bytes], name: str, content: IO[bytes]) -> None:
    """A member of an `ar` archive."""
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{size:<10}`\n".encode("ascii"))
    shutil.copyfileobj(content, file)
    if size % 2:
        file.write(b"\n")
