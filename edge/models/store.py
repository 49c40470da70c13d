"""The agent's own copies of the models it runs: nobody changes them under it, and the last good one is at hand."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final, Generic

from contract.card import MANIFEST_FILE, MAX_MANIFEST_BYTES, SIGNATURE_FILE
from edge.errors import ModelError
from edge.models.package import MAX_SIGNATURE_BYTES, CardT, read_package

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edge.models.package import Package

_DIGEST_CHARACTERS: Final = 16
# Beside the manifest, once the model has given a result.
_PROVEN: Final = "proven"
_PIECE_BYTES: Final = 1 << 20


class Store(Generic[CardT]):
    """Copies of the models of one name, at most two; what its disk does not take is not kept.

    Where keys are trusted, a copy is as good as its signature; `read` gives the model in a directory.
    """

    def __init__(
        self,
        directory: Path,
        trusted_keys: Sequence[Path],
        read: Callable[[Path, Sequence[Path]], Package[CardT]] = read_package,  # type: ignore[assignment] # CardT's default
    ) -> None:
        # As packages have it: a relative one, or one behind a link, would be another place than theirs.
        self._directory = directory.resolve()
        self._trusted_keys = trusted_keys
        self._read = read

    def keep(self, package: Package[CardT]) -> Package[CardT]:
        """The package in a copy of its own; raises ModelError where it cannot be copied."""
        place = self._place(package.digest)
        if package.directory == place:
            return package
        scratch = place.with_suffix(".part")
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            sizes = {MANIFEST_FILE: MAX_MANIFEST_BYTES, SIGNATURE_FILE: MAX_SIGNATURE_BYTES}
            for name, size in (sizes | {each.file: each.size_bytes for each in package.manifest.tflite_files}).items():
                if (package.directory / name).is_file():  # a form that is not there was not chosen
                    _copy(package.directory / name, scratch / name, size)
            shutil.rmtree(place, ignore_errors=True)
            scratch.rename(place)
            kept = self._read(place, self._trusted_keys)
        except OSError as exc:
            raise ModelError(f"cannot be kept in {self._directory}: {exc.strerror}") from exc
        if kept.digest != package.digest:
            raise ModelError("was changed while it was copied")
        return kept

    def prove(self, package: Package[CardT]) -> None:
        """It has given a result: it may come back when a later one fails."""
        if package.directory == self._place(package.digest):
            try:
                (package.directory / _PROVEN).touch()
            except OSError:
                return  # without it there is one less to come back

    def discard(self, package: Package[CardT]) -> None:
        """It is no good any more."""
        shutil.rmtree(self._place(package.digest), ignore_errors=True)

    def proven(self) -> list[Package[CardT]]:
        """Those that have given results, the newest first."""
        found = []
        for mark in sorted(self._directory.glob(f"*/{_PROVEN}"), key=_age, reverse=True):
            try:
                found.append(self._read(mark.parent, self._trusted_keys))
            except ModelError:
                continue  # half written, garbled since, or of a key that is trusted no more
        return found

    def prune(self, *wanted: Package[CardT] | None) -> None:
        """Deletes all but these."""
        digests = {self._place(package.digest) for package in wanted if package is not None}
        try:
            others = [place for place in self._directory.iterdir() if place not in digests]
        except OSError:
            return
        for place in others:
            shutil.rmtree(place, ignore_errors=True)

    def _place(self, digest: str) -> Path:
        return self._directory / digest[:_DIGEST_CHARACTERS]


def _copy(source: Path, target: Path, most_bytes: int) -> None:
    """The beginning of a file: one that is longer than it should be is not to fill our disk."""
    with source.open("rb") as found, target.open("wb") as kept:
        while most_bytes > 0 and (piece := found.read(min(most_bytes, _PIECE_BYTES))):
            kept.write(piece)
            most_bytes -= len(piece)


def _age(mark: Path) -> int:
    try:
        return mark.stat().st_mtime_ns
    except OSError:
        return 0
