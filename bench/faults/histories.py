"""What a plant told, and what was wrong with it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]

STEP_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Fault:
    """What was wrong, with what, and when."""

    kind: str
    what: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What a plant told each second: `values` float64 [seconds, series]."""

    at_ms: Times
    values: Floats
    names: tuple[str, ...]
    faults: tuple[Fault, ...]

    def steps(self) -> tuple[Times, Floats]:
        """Means of steps: their begins [steps], and values [steps, series]."""
        seconds = STEP_MS // 1000
        count = len(self.at_ms) // seconds
        means = self.values[: count * seconds].reshape(count, seconds, -1).mean(axis=1)
        return self.at_ms[: count * seconds : seconds], means


def history(directory: Path, seed: int, options: argparse.Namespace, *more: str) -> History:
    """Made by the simulator, in a process of its own."""
    path = directory / f"{seed}.npz"
    asked = ["--seed", str(seed), "--steps", str(round(options.hours * 3600)), "--day", str(options.day), *more]
    command = [sys.executable, "-m", "simulators", "history", "plant", *asked, "--out", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with np.load(path) as read:
        columns = ("incident_kind", "incident_what", "incident_start_ms", "incident_end_ms")
        told = zip(*(read[name].tolist() for name in columns), strict=True) if columns[0] in read else ()
        return History(
            read["at_ms"], read["values"], tuple(read["names"].tolist()), tuple(Fault(*each) for each in told)
        )
