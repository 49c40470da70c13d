"""Where a training is: written after each epoch, so that one that is killed goes on."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays: TypeAlias = Sequence[NDArray[np.generic]]

_FILE: Final = "last.npz"
_UNFINISHED: Final = "next.npz"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The net's and its optimizer's variables after the last epoch, and the net's after the best one.

    `of` says of which training; `history` float64 [1 + epochs, 2] has the loss in training and in validation, first of
    the untrained net.
    """

    of: str
    weights: Arrays
    optimizer: Arrays
    best: Arrays
    history: NDArray[np.float64]

    def save(self, place: Path) -> None:
        """Replaces what lies there, whole or not at all."""
        place.mkdir(parents=True, exist_ok=True)
        unfinished = place / _UNFINISHED
        groups = {"weights": self.weights, "optimizer": self.optimizer, "best": self.best}
        arrays = {f"{name}{index:03d}": each for name, group in groups.items() for index, each in enumerate(group)}
        with unfinished.open("wb") as file:
            np.savez(file, of=np.array(self.of), history=self.history, **arrays)
        unfinished.replace(place / _FILE)

    @classmethod
    def load(cls, place: Path, of: str) -> Self | None:
        """What lies there; none where it is of another training, or no checkpoint."""
        try:
            with (place / _FILE).open("rb") as content, np.load(content, allow_pickle=False) as file:
                arrays = dict(file)
            given, history = str(arrays["of"]), arrays["history"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        if given != of:
            return None
        return cls(of, _group(arrays, "weights"), _group(arrays, "optimizer"), _group(arrays, "best"), history)

    @staticmethod
    def forget(place: Path) -> None:
        """The training has come to its end."""
        for name in (_FILE, _UNFINISHED):
            (place / name).unlink(missing_ok=True)


def _group(arrays: Mapping[str, NDArray[np.generic]], name: str) -> Arrays:
    return [arrays[key] for key in sorted(arrays) if key.startswith(name)]
