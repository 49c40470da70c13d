"""The models in a directory, looked at now and then: what is new, what is gone, what is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from contract.card import MANIFEST_FILE
from stream.errors import ModelError
from stream.serving.package import Package, read_package

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_Stamp: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class News:
    """What a look has found that the look before had not, by the names of the directories.

    `served` are packages that are new or other ones than before; `refused` says why one is not served; `waiting` are
    left for the next look.
    """

    served: Mapping[str, Package]
    refused: Mapping[str, str]
    gone: tuple[str, ...]
    waiting: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.served or self.refused or self.gone)


class Catalogue:
    """The packages in `directory`, each a directory with a manifest; `packages` are those that are served, by its name.

    `check` is asked about each that is new, and raises ModelError for what it does not want; `trial` is one. Where one
    is replaced by what is refused, what was served goes on. Put packages there by renaming, or by a symbolic link: one
    that is half written would be refused first.
    """

    def __init__(
        self, directory: Path, trusted_keys: Sequence[Path] = (), check: Callable[[Package], None] | None = None
    ) -> None:
        self.packages: dict[str, Package] = {}
        self._directory = directory
        self._trusted_keys = tuple(trusted_keys)
        self._check = check
        self._stamps: dict[str, _Stamp] = {}

    def look(self, most: int | None = None) -> News:
        """Reads what has changed since the last look; raises ModelError where there is no such directory.

        With `most`, `check` is asked about so many packages, which may take long, and the others wait.
        """
        stamps = self._found()
        gone = tuple(sorted((self._stamps.keys() | self.packages.keys()) - stamps.keys()))
        for name in gone:
            self.packages.pop(name, None)
        served, refused = {}, {}
        waiting: list[str] = []
        checked = 0
        for name in sorted(name for name, stamp in stamps.items() if self._stamps.get(name) != stamp):
            if checked == most:
                waiting.append(name)
                continue
            try:
                package = read_package(self._directory / name, self._trusted_keys)
                if self.packages.get(name) == package:
                    continue
                checked += 1
                if self._check is not None:
                    self._check(package)
                served[name] = self.packages[name] = package
            except ModelError as exc:
                refused[name] = str(exc)
        # A stamp that is missing is none that any package has.
        self._stamps = {name: stamp for name, stamp in stamps.items() if name not in waiting}
        return News(served, refused, gone, tuple(waiting))

    def _found(self) -> dict[str, _Stamp]:
        try:
            places = [each for each in self._directory.iterdir() if os.path.lexists(each / MANIFEST_FILE)]
        except OSError as exc:
            raise ModelError(f"{self._directory}: cannot be read: {exc.strerror}") from exc
        return {place.name: _stamp_of(place) for place in places}


def _stamp_of(place: Path) -> _Stamp:
    """What differs when anything in a package does, without reading it."""
    try:
        return tuple(_change_of(each) for each in sorted(place.resolve(strict=True).iterdir()))
    except (OSError, RuntimeError) as exc:
        return (str(exc),)


def _change_of(entry: Path) -> _Stamp:
    try:
        found = entry.stat()
    except OSError as exc:  # a link to nowhere must not hide what else changes
        return str(entry), exc.errno
    return str(entry), found.st_ino, found.st_mtime_ns, found.st_size
