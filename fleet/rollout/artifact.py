"""What is rolled out, as one file: taken in and checked once, kept in the operator's directory until it is over."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from contract.archive import ArchiveError, pack, unpack
from contract.card import MANIFEST_FILE, MAX_MANIFEST_BYTES, parse_document
from contract.config import ConfigError
from contract.update import (
    CHUNK_BYTES,
    MAX_BYTES,
    MAX_CHUNKS,
    MAX_UNPACKED_BYTES,
    MAX_URL_CHUNK_BYTES,
    chunk_hashes,
)
from fleet.errors import FleetError
from fleet.files import put_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.update import Kind

_BY_MESSAGES: Final = MAX_CHUNKS * CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of which devices are told the digests: of the whole, and of each chunk."""

    path: Path
    sha256: str
    size: int
    unpacked_bytes: int
    chunk_bytes: int
    chunks: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, unpacked_bytes: int, *, by_url: bool) -> Artifact:
        """What a file is; raises FleetError."""
        try:
            size = path.stat().st_size
            # Small chunks, of which a poor line loses little, where the manifest has room for them.
            chunk_bytes = CHUNK_BYTES if not by_url or size <= _BY_MESSAGES else MAX_URL_CHUNK_BYTES
            with path.open("rb") as file:
                sha256, size, chunks = chunk_hashes(file, chunk_bytes)
        except OSError as exc:
            raise FleetError(f"{path}: cannot be read: {exc.strerror}") from exc
        return cls(path, sha256, size, unpacked_bytes, chunk_bytes, chunks)

    def content(self) -> Iterator[bytes]:
        """Chunk by chunk; raises FleetError when the file is not what it was."""
        try:
            with self.path.open("rb") as file:
                while chunk := file.read(self.chunk_bytes):
                    yield chunk
        except OSError as exc:
            raise FleetError(f"{self.path}: cannot be read: {exc.strerror}") from exc

    def keep(self, folder: Path) -> Artifact:
        """Moves it into a folder of the same file system, durably and in one step, under its digest."""
        kept = kept_at(folder, self.sha256)
        try:
            put_in_place(self.path, kept)
        except OSError as exc:
            raise FleetError(f"{kept}: cannot be written: {exc.strerror}") from exc
        return replace(self, path=kept)


def kept_at(folder: Path, sha256: str) -> Path:
    """Where a folder has what has this digest."""
    return folder / sha256


def take_in(source: Path, kind: Kind, version: str, directory: Path, *, by_url: bool) -> Artifact:
    """Makes an update of a file or a directory, in a directory that is the caller's to delete.

    What devices would refuse as a whole is refused here: raises ConfigError, or FleetError.
    """
    made = directory / "artifact"
    try:
        if source.is_dir():
            if kind == "config":
                raise ConfigError(f"{source}: is a directory: a configuration is one YAML file")
            with made.open("xb") as file:
                pack(source, file)
        else:
            _copy(source, made, MAX_BYTES[kind])
        checked = _checked_config if kind == "config" else _checked_archive
        unpacked_bytes = checked(made, source, kind, version)
    except ArchiveError as exc:
        raise ConfigError(f"{source}: {exc}") from exc
    except OSError as exc:
        raise FleetError(f"{exc.filename or source}: {exc.strerror}") from exc
    artifact = Artifact.read(made, unpacked_bytes, by_url=by_url)
    _check_size(artifact, source, kind, by_url=by_url)
    return artifact


def _copy(source: Path, made: Path, most: int) -> None:
    size = source.stat().st_size
    if not 0 < size <= most:
        raise ConfigError(f"{source}: is {size} bytes: allowed are 1 to {most}")
    with source.open("rb") as file, made.open("xb") as copy:
        shutil.copyfileobj(file, copy)


def _checked_config(made: Path, source: Path, _kind: Kind, _version: str) -> int:
    """Its size; what is in it the device checks, which knows its own agent."""
    try:
        document = yaml.safe_load(made.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{source}: is not YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: is no configuration: allowed are keys with values")
    return made.stat().st_size


def _checked_archive(made: Path, source: Path, kind: Kind, version: str) -> int:
    """What its files take; unpacked as a device does, by the same rules."""
    with tempfile.TemporaryDirectory(dir=made.parent) as place, made.open("rb") as file:
        unpack(file, Path(place), MAX_UNPACKED_BYTES[kind])
        if (found := _version(Path(place), source)) != version:
            raise ConfigError(
                f"--version: found {version!r}, allowed is that in {source}, which devices compare: {found}"
            )
        return sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())


def _version(unpacked: Path, source: Path) -> str:
    """Of its manifest."""
    origin = f"{source}: {MANIFEST_FILE}"
    try:
        with (unpacked / MANIFEST_FILE).open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{origin}: cannot be read: {exc.strerror}") from exc
    if len(text) > MAX_MANIFEST_BYTES:
        raise ConfigError(f"{origin}: allowed are {MAX_MANIFEST_BYTES} bytes")
    document = parse_document(text, origin)
    version = document.get("version") if isinstance(document, dict) else None
    if not isinstance(version, str):
        raise ConfigError(f"{origin}: has no version")
    return version


def _check_size(artifact: Artifact, source: Path, kind: Kind, *, by_url: bool) -> None:
    if artifact.size > MAX_BYTES[kind]:
        raise ConfigError(f"{source}: is {artifact.size} bytes: allowed are {MAX_BYTES[kind]}")
    if not by_url and artifact.size > _BY_MESSAGES:
        raise ConfigError(
            f"{source}: is {artifact.size} bytes, too much for messages, which take {_BY_MESSAGES}: "
            "put it on a web server, and name it by --url"
        )
