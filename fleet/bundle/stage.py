"""What a bundle holds, laid out in a directory."""

from __future__ import annotations

import hashlib
import json
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
_BLOCK_KIB: Final = 4
_PROGRAM_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
_UNITS: Final = "usr/lib/systemd/system"


@dataclass(frozen=True, slots=True)
class Source:
    """What a bundle is made from, read once: a checkout may be worked on meanwhile."""

    target: Target
    wheels: tuple[Wheel, ...]
    # Our code, by its place in `lib`.
    own: tuple[tuple[str, bytes], ...]
    # What lies outside of the versions: its place below /, content and mode.
    system: tuple[tuple[str, bytes, int], ...]

    @classmethod
    def read(cls, checkout: Path, target: Target, wheels: tuple[Wheel, ...]) -> Source:
        """That of a checkout; raises FleetError."""
        return cls(target, wheels, tuple(_own_files(checkout)), tuple(_system_files(checkout, target)))

    @property
    def deps(self) -> str:
        """What the directory of these libraries is called."""
        return f"{self.target.label}-{_digest(wheel.sha256.encode() for wheel in self.wheels)}"

    @property
    def version(self) -> str:
        """The agent's version, told from all others by its content."""
        own = (piece for name, content in self.own for piece in (name.encode(), content))
        system = (piece for name, content, _ in self.system for piece in (name.encode(), content))
        return f"{__version__}+{_digest((*own, *system, self.deps.encode()))}"

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

    def about(self, node: str | None) -> str:
        """What `install` reads, as a shell does; of a node's bundle or any's."""
        debian = " ".join(sorted(self.target.from_debian().values()))
        return (
            f"VERSION={self.version}\nARCH={self.target.arch}\nPYTHON={self.target.python}\n"
            f"DEPS={self.deps}\nDEBIAN='{debian}'\n" + ("" if node is None else f"NODE={node}\n")
        )


def _own_files(checkout: Path) -> Iterator[tuple[str, bytes]]:
    for package in OWN_PACKAGES:
        for path in sorted((checkout / package).rglob("*")):
            parts = path.relative_to(checkout).parts
            if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in parts):
                yield "/".join(parts), _read(path)


def _system_files(checkout: Path, target: Target) -> Iterator[tuple[str, bytes, int]]:
    yield "usr/lib/headwater/launcher.py", _read(checkout / "edge/launcher.py"), _FILE_MODE
    for name in ("setup", "prune-cache"):
        yield f"usr/lib/headwater/{name}", device_file(name), _PROGRAM_MODE
    yield "usr/lib/headwater/setup-node", device_file("setup-node"), _FILE_MODE
    yield "usr/bin/headwater-edge", device_file("headwater-edge"), _PROGRAM_MODE
    yield f"{_UNITS}/headwater-edge.service", _read(checkout / "edge/examples/headwater-edge.service"), _FILE_MODE
    yield f"{_UNITS}/headwater-enrol.service", device_file("headwater-enrol.service"), _FILE_MODE
    if target.python != "3.11":
        # Debian 12's systemd would warn of it at each start.
        yield f"{_UNITS}/headwater-edge.service.d/backoff.conf", device_file("backoff.conf"), _FILE_MODE


def device_file(name: str) -> bytes:
    """A script or unit that runs on devices."""
    return (resources.files(__package__) / "device" / name).read_bytes()


def lay_payload(source: Source, folder: Path, node: str | None) -> int:
    """What is unpacked on the device, of a node's bundle or any's: a version, its libraries, and what is in them.

    Returns what that takes there, in KiB.
    """
    lay_version(source, folder / "version", whole=False)
    lay_libraries(source.wheels, folder / "deps")
    for name in ("version", "deps"):
        put(folder / "sums" / name, _sums(folder / name).encode())
    # A file takes whole blocks.
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    kib = sum(-(-size_bytes // (_BLOCK_KIB << 10)) * _BLOCK_KIB for size_bytes in sizes)
    put(folder / "about", f"{source.about(node)}KIB={kib}\n".encode())
    return kib


def _sums(folder: Path) -> str:
    """Its files as `sha256sum --check` reads them: what is on the device already is checked by it, and so is a copy."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files
    )


def lay_version(source: Source, folder: Path, *, whole: bool) -> None:
    """A version's directory; with its libraries in itself, or with the name of theirs."""
    for name, content in source.own:
        put(folder / "lib" / name, content)
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
    for name, content, mode in source.system:
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
