"""What a bundle holds, laid out in a directory."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contract import __version__
from fleet.bundle.wheels import unpack
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet.bundle.target import Target
    from fleet.bundle.wheels import Wheel

CHECKOUT: Final = Path(__file__).parents[2]
# Of the checkout the device needs these: the other roles are none of its business.
OWN_PACKAGES: Final = ("contract", "edge")
MANIFEST: Final = "manifest.json"
DEPS: Final = "deps"
_DIGEST_CHARACTERS: Final = 8
_PROGRAM_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
_UNITS: Final = "usr/lib/systemd/system"


@dataclass(frozen=True, slots=True)
class Source:
    """What bundles are made from."""

    checkout: Path
    target: Target
    wheels: tuple[Wheel, ...]

    @property
    def deps(self) -> str:
        """What the directory of these libraries is called."""
        return f"{self.target.label}-{_digest(wheel.sha256.encode() for wheel in self.wheels)}"

    @property
    def version(self) -> str:
        """The agent's version, told from all others by its content."""
        told = (*self._own_lines(), self.deps.encode(), *(content for _, content, _ in self.system_files()))
        return f"{__version__}+{_digest(told)}"

    def own_files(self) -> Iterator[tuple[str, Path]]:
        """Our code: its place in `lib`, and the file."""
        for package in OWN_PACKAGES:
            for path in sorted((self.checkout / package).rglob("*")):
                parts = path.relative_to(self.checkout).parts
                if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in parts):
                    yield "/".join(parts), path

    def system_files(self) -> Iterator[tuple[str, bytes, int]]:
        """What lies outside of the versions: its place below /, content and mode."""
        yield "usr/lib/headwater/launcher.py", _read(self.checkout / "edge/launcher.py"), _FILE_MODE
        yield "usr/lib/headwater/setup", device_file("setup"), _PROGRAM_MODE
        yield "usr/bin/headwater-edge", device_file("headwater-edge"), _PROGRAM_MODE
        yield (
            f"{_UNITS}/headwater-edge.service",
            _read(self.checkout / "edge/examples/headwater-edge.service"),
            _FILE_MODE,
        )
        yield f"{_UNITS}/headwater-enrol.service", device_file("headwater-enrol.service"), _FILE_MODE
        if self.target.python != "3.11":
            # Debian 12's systemd would warn of it at each start.
            yield f"{_UNITS}/headwater-edge.service.d/backoff.conf", device_file("backoff.conf"), _FILE_MODE

    def manifest(self, *, whole: bool) -> dict[str, Any]:
        """What the version says of itself."""
        return {
            "format": 1,
            "kind": "agent",
            "version": self.version,
            "arch": self.target.arch,
            "python": self.target.python,
            "deps": None if whole else self.deps,
            "packages": [
                {"name": wheel.name, "version": wheel.version, "sha256": wheel.sha256} for wheel in self.wheels
            ],
            "from_debian": sorted(self.target.from_debian().values()),
            "lacking": sorted(self.target.lacking()),
        }

    def about(self) -> str:
        """What `install` reads, as a shell does."""
        debian = " ".join(sorted(self.target.from_debian().values()))
        return (
            f"VERSION={self.version}\nARCH={self.target.arch}\nPYTHON={self.target.python}\n"
            f"DEPS={self.deps}\nDEBIAN='{debian}'\n"
        )

    def _own_lines(self) -> Iterator[bytes]:
        for name, path in self.own_files():
            yield f"{name} {hashlib.sha256(_read(path)).hexdigest()}".encode()


def device_file(name: str) -> bytes:
    """A script or unit that runs on devices."""
    return (resources.files(__package__) / "device" / name).read_bytes()


def lay_version(source: Source, folder: Path, *, whole: bool) -> None:
    """A version's directory; with its libraries in itself, or with the name of theirs."""
    for name, path in source.own_files():
        place = folder / "lib" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    manifest = json.dumps(source.manifest(whole=whole), indent=2) + "\n"
    (folder / MANIFEST).write_text(manifest, encoding="utf-8")
    if whole:
        lay_libraries(source.wheels, folder / "lib")
    else:
        (folder / DEPS).write_text(f"{source.deps}\n", encoding="ascii")


def lay_libraries(wheels: Sequence[Wheel], folder: Path) -> None:
    """The libraries, ready to be imported."""
    for wheel in wheels:
        unpack(wheel, folder)


def lay_system(source: Source, folder: Path) -> None:
    """What lies outside of the versions."""
    for name, content, mode in source.system_files():
        put(folder / name, content, mode)


def put(path: Path, content: bytes, mode: int = _FILE_MODE) -> None:
    """A file with its mode, whatever the umask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def _digest(pieces: Iterator[bytes] | Sequence[bytes]) -> str:
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(b"%d:" % len(piece) + piece)
    return whole.hexdigest()[:_DIGEST_CHARACTERS]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise FleetError(f"{path}: {exc.strerror}; bundles are made in a checkout") from exc
