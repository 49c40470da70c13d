"""A registry of models: versions never change, stages do.

    NAME/versions/VERSION/manifest.json and the files beside it
    NAME/moves/TIME-RANDOM.json

The manifest is written last: a version without one was never finished, and is not there.
"""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import os
import re
import secrets
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from contract.card import MANIFEST_FILE, MAX_MANIFEST_BYTES, MAX_MODEL_BYTES, SIGNATURE_FILE
from models.errors import RegistryError
from models.registry.card import parse_card
from models.registry.stages import Move, Stage, stages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from contract.card import ModelCard

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_MAX_MOVES: Final = 10_000
# The longest reason takes 6 bytes a character.
_MAX_MOVE_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class Registered:
    """A version that is kept, and how far it has come."""

    card: ModelCard
    stage: Stage
    is_signed: bool


class Registry:
    """The models under a URL that fsspec knows, such as `.models/registry`, `s3://bucket/models` or `memory://x`.

    All methods raise RegistryError where the store fails, and where something is not there.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with self._translated("opened"):
            self._store, self._root = fsspec.core.url_to_fs(url)

    def names(self) -> list[str]:
        """The models of which there is a version."""
        return [name for name in self._entries(self._root) if _NAME.fullmatch(name) and self._versions(name)]

    def versions(self, name: str) -> list[Registered]:
        """The versions of a model, the newest training first; none of one that is not known."""
        known = self._versions(name)
        stage_of = stages(known, self.moves(name))
        found = [
            Registered(self._card(name, version), stage_of[version], self._is_signed(name, version))
            for version in known
        ]
        return sorted(found, key=lambda each: each.card.version, reverse=True)

    def find(self, name: str, wanted: str) -> Registered:
        """A version by its name, or by the stage that it is in; the newest where several are."""
        found = self.versions(name)
        for each in found:
            if wanted in {each.card.version, each.stage.value}:
                return each
        there = ", ".join(f"{each.card.version} ({each.stage})" for each in found) or "no version"
        raise RegistryError(f"{name}: there is no {wanted} in {self.url}; there is {there}")

    def moves(self, name: str) -> list[Move]:
        """What was moved so far, the oldest first."""
        place = f"{self._place(name)}/moves"
        files = [file for file in self._entries(place) if file.endswith(".json")][-_MAX_MOVES:]
        found = [self._move(f"{place}/{file}") for file in files]
        return sorted(found, key=lambda move: move.at)

    def register(self, package: Path, evidence: Sequence[Path] = ()) -> Registered:
        """Takes a package in; another one of its version is refused.

        The very same once more changes nothing, but that a signature is added where there was none.
        """
        content = _file(package / MANIFEST_FILE)
        card = parse_card(content, str(package / MANIFEST_FILE))
        place = self._version_place(card.name, card.version)
        signature = [package / SIGNATURE_FILE] if (package / SIGNATURE_FILE).is_file() else []
        if card.version in self._versions(card.name):
            if self._read(f"{place}/{MANIFEST_FILE}", MAX_MANIFEST_BYTES) != content:
                raise RegistryError(
                    f"{card.name} {card.version} is in {self.url} already, and is not this one: train again for another"
                )
            if signature and not self._is_signed(card.name, card.version):
                self._write(f"{place}/{SIGNATURE_FILE}", _file(signature[0]))
            return self.find(card.name, card.version)
        for each in card.files:
            _check(package / each.file, _file(package / each.file), each.sha256)
        for path in (*(package / each.file for each in card.files), *signature, *evidence):
            self._write(f"{place}/{path.name}", _file(path))
        self._write(f"{place}/{MANIFEST_FILE}", content)
        return self.find(card.name, card.version)

    def promote(self, name: str, version: str, stage: Stage, why: str = "") -> Registered:
        """Puts a version into a stage."""
        self.find(name, version)
        now = dt.datetime.now(dt.UTC)
        try:
            move = Move(version=version, stage=stage, at=now, by=_who(), why=why)
        except ValidationError as exc:
            raise RegistryError(f"the reason for a move: {exc.errors()[0]['msg']}") from exc
        file = f"{now:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.json"
        self._write(f"{self._place(name)}/moves/{file}", move.model_dump_json(indent=2).encode())
        return self.find(name, version)

    def fetch(self, name: str, version: str, into: Path) -> ModelCard:
        """Puts what a device needs of a version into a directory that is there; what does not match is refused."""
        place = self._version_place(name, version)
        card = self._card(name, version)
        for each in card.files:
            content = self._read(f"{place}/{each.file}", MAX_MODEL_BYTES)
            _check(each.file, content, each.sha256)
            (into / each.file).write_bytes(content)
        for file in (MANIFEST_FILE, *([SIGNATURE_FILE] if self._is_signed(name, version) else [])):
            (into / file).write_bytes(self._read(f"{place}/{file}", MAX_MANIFEST_BYTES))
        return card

    def _versions(self, name: str) -> list[str]:
        place = f"{self._place(name)}/versions"
        found = [version for version in self._entries(place) if _NAME.fullmatch(version)]
        return [version for version in found if self._exists(f"{place}/{version}/{MANIFEST_FILE}")]

    def _card(self, name: str, version: str) -> ModelCard:
        path = f"{self._version_place(name, version)}/{MANIFEST_FILE}"
        card = parse_card(self._read(path, MAX_MANIFEST_BYTES), path)
        if (card.name, card.version) != (name, version):
            raise RegistryError(f"{path}: is of {card.name} {card.version}: it is not where it belongs")
        return card

    def _is_signed(self, name: str, version: str) -> bool:
        return self._exists(f"{self._version_place(name, version)}/{SIGNATURE_FILE}")

    def _move(self, path: str) -> Move:
        content = self._read(path, _MAX_MOVE_BYTES)
        try:
            return Move.model_validate_json(content)
        except ValueError as exc:
            raise RegistryError(f"{path}: is no move: {str(exc).splitlines()[0]}") from exc

    # The store.

    def _place(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise RegistryError(f"{name!r} is no name of a model: allowed are letters, digits, and . _ + - within")
        return f"{self._root}/{name}"

    def _version_place(self, name: str, version: str) -> str:
        if not _NAME.fullmatch(version):
            raise RegistryError(f"{version!r} is no version: allowed are letters, digits, and . _ + - within")
        return f"{self._place(name)}/versions/{version}"

    def _entries(self, place: str) -> list[str]:
        """The names in a place, in order; none where there is no such place."""
        with self._translated("listed"):
            self._store.invalidate_cache()
            if not self._store.exists(place):
                return []
            return sorted(str(path).rstrip("/").rpartition("/")[2] for path in self._store.ls(place, detail=False))

    def _exists(self, path: str) -> bool:
        with self._translated("read"):
            return bool(self._store.exists(path))

    def _read(self, path: str, most_bytes: int) -> bytes:
        with self._translated("read"), self._store.open(path, "rb") as file:
            content: bytes = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise RegistryError(f"{path}: has more than {most_bytes} bytes")
        return content

    def _write(self, path: str, content: bytes) -> None:
        with self._translated("written"):
            self._store.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(self._store, LocalFileSystem):
                _write_whole(Path(path), content)
                return
            with self._store.transaction, self._store.open(path, "wb") as file:
                file.write(content)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as exc:  # each store raises what its client library does
            raise RegistryError(f"{self.url}: cannot be {what}: {' '.join(str(exc).split())}") from exc


def _write_whole(path: Path, content: bytes) -> None:
    """Beside its place and renamed into it: fsspec's own transaction goes by way of /tmp, and copies from there."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise RegistryError(f"{path}: cannot be read: {exc.strerror}") from exc


def _check(path: object, content: bytes, sha256: str) -> None:
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise RegistryError(f"{path}: is not the manifest's: its SHA-256 is {found[:12]}..., not {sha256[:12]}...")


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"[:200]
    except (OSError, KeyError):  # a container's user may have no name
        return socket.gethostname()
