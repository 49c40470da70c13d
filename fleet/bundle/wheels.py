"""The libraries: wheels by a lock file, downloaded for another machine and unpacked."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fleet.bundle.target import Target

_LOCKED: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")
_WHEEL: Final = re.compile(r"^([A-Za-z0-9_.]+)-([^-]+)-.+\.whl$")
_SEPARATORS: Final = re.compile(r"[-_.]+")
_GIVEN_UP: Final = re.compile(r"Retry\(total=0,.*connection broken by '(.+)': /")
_DOWNLOADING: Final = re.compile(r"\s*Downloading (?:\S*/)?([A-Za-z0-9_.]+)-([^-/]+)-[^/]+\.whl \((.+)\)$")
_OBJECT: Final = re.compile(r"<[^>]*>: ")
# Parts of a wheel's NAME.data that are imported; the others are programs and headers.
_IMPORTED: Final = frozenset({"purelib", "platlib"})
_MAX_WHEEL_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Locked:
    """A line of a lock file, with the hashes that go with it."""

    name: str
    version: str
    text: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that was downloaded."""

    name: str
    version: str
    sha256: str
    path: Path


def wanted(lock: str, target: Target) -> tuple[Locked, ...]:
    """What a target takes of a lock file's text."""
    without = target.lacking() | target.from_debian().keys()
    return tuple(line for line in _parse(lock) if line.name not in without)


def _parse(lock: str) -> Iterator[Locked]:
    for block in re.split(r"\n(?=[^\s#])", lock):
        if found := _LOCKED.match(block):
            yield Locked(canonical(found[1]), found[2], block.rstrip("\n") + "\n")


def canonical(name: str) -> str:
    """A library's name in the one way to write it."""
    return _SEPARATORS.sub("-", name).lower()


def download(
    locked: Sequence[Locked],
    target: Target,
    folder: Path,
    wheels: Path | None,
    told: Callable[[str], None] = lambda _: None,
) -> tuple[Wheel, ...]:
    """Has pip fetch them, each with one of its hashes; with `wheels` from that directory, and without network.

    Where else they come from is as pip is set up on this machine; `told` hears of each then. Raises FleetError.
    """
    folder.mkdir()
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(line.text for line in locked), encoding="utf-8")
    source = () if wheels is None else ("--no-index", "--find-links", str(wheels))
    _pip(
        folder,
        told,
        *("download", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--progress-bar", "off"),
        *("--dest", str(folder), *source),
        *(word for platform in target.platforms() for word in ("--platform", platform)),
        *("--python-version", target.python, "--implementation", "cp", "--requirement", str(requirements)),
    )
    requirements.unlink()
    found = tuple(sorted(map(_read, folder.iterdir()), key=lambda wheel: wheel.name))
    if {(wheel.name, wheel.version) for wheel in found} != {(line.name, line.version) for line in locked}:
        raise FleetError(
            f"pip brought {', '.join(f'{wheel.name} {wheel.version}' for wheel in found)}: not what is locked"
        )
    return found


def _pip(folder: Path, told: Callable[[str], None], *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    said = []
    with subprocess.Popen(  # noqa: S603 - no shell, and words of ours
        command,
        # What it leaves where it is killed goes with ours.
        env={**os.environ, "TMPDIR": str(folder.parent)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as pip:
        try:
            for line in pip.stdout or ():
                said.append(line.rstrip())
                if found := _DOWNLOADING.match(line):
                    told(f"  {found[1]} {found[2]}, {found[3]}")
        except BaseException:
            pip.kill()
            raise
    if pip.returncode:
        raise FleetError(f"wheels cannot be had: {_reason(said) or f'pip exits with {pip.returncode}'}")


def _reason(said: Sequence[str]) -> str:
    """Why pip has failed. An index that does not answer it takes for one that has nothing, and says so at the end."""
    if unanswered := _GIVEN_UP.search("\n".join(said)):
        why = _OBJECT.sub("", unanswered[1])
        return f"pip's index does not answer (`pip config list` names it; without any it is PyPI): {why}"
    return next((line for line in reversed(said) if line.startswith("ERROR")), "".join(said[-1:]))


def _read(path: Path) -> Wheel:
    found = _WHEEL.match(path.name)
    if found is None:
        raise FleetError(f"pip brought {path.name}, which is no wheel")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Wheel(canonical(found[1]), found[2], digest, path)


def unpack(wheel: Wheel, folder: Path) -> None:
    """Puts what a wheel has to import into a folder; raises FleetError for one that would reach out of it."""
    left = _MAX_WHEEL_BYTES
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            for member in archive.infolist():
                place = _place(member.filename)
                if place is None or member.is_dir():
                    continue
                left -= member.file_size
                if left < 0:
                    raise FleetError(f"{wheel.path.name}: unpacks to more than {_MAX_WHEEL_BYTES} bytes")
                _write(archive.read(member), folder / place, wheel)
    except (zipfile.BadZipFile, ValueError) as exc:
        raise FleetError(f"{wheel.path.name}: {exc}") from exc


def _place(name: str) -> PurePosixPath | None:
    """Where a member belongs; None: nowhere. Raises ValueError."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError(f"{name!r} leads out of the wheel")
    if not path.parts[0].endswith(".data"):
        return path
    return PurePosixPath(*path.parts[2:]) if path.parts[1] in _IMPORTED else None


def _write(content: bytes, path: Path, wheel: Wheel) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_bytes() != content:
        raise FleetError(f"{wheel.path.name}: another wheel has a different {path.name} in the same place")
    path.write_bytes(content)
