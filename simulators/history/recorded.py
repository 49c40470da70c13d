"""What a history is, and the file that it is written to."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from simulators.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Times: TypeAlias = NDArray[np.int64]

# Begin of every history: a Thursday, UTC.
BEGIN_MS: Final = 1_767_225_600_000
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Incident:
    """What was wrong, with what, and when: UTC ms, the end is after it."""

    kind: str
    what: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """`at_ms` int64 [steps], UTC ms, evenly spaced; `values` float64 [steps, metrics]; `units` by metric, in order."""

    at_ms: Times
    values: Floats
    units: Mapping[str, str]
    incidents: tuple[Incident, ...] = ()


def save(recorded: Recorded, path: Path) -> None:
    """An .npz of plain arrays, at once or not at all; raises SimulatorError."""
    arrays: dict[str, Any] = {
        "format": np.int64(FORMAT),
        "at_ms": recorded.at_ms,
        "values": recorded.values,
        "names": _words(list(recorded.units)),
        "units": _words(list(recorded.units.values())),
    }
    write_arrays(arrays | incident_arrays(recorded.incidents), path)


def incident_arrays(incidents: Sequence[Incident]) -> dict[str, Any]:
    """What was wrong, as a file has it."""
    return {
        "incident_kind": _words([each.kind for each in incidents]),
        "incident_what": _words([each.what for each in incidents]),
        "incident_start_ms": np.array([each.start_ms for each in incidents], np.int64),
        "incident_end_ms": np.array([each.end_ms for each in incidents], np.int64),
    }


def write_arrays(arrays: Mapping[str, Any], path: Path) -> None:
    """An .npz of plain arrays, at once or not at all; raises SimulatorError."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            _write(arrays, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as exc:
        raise SimulatorError(f"{path}: cannot be written: {exc.strerror}") from exc


def _write(arrays: Mapping[str, Any], path: Path) -> None:
    """As `numpy.savez` does, but never a pickle, and the same bytes for the same arrays."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)  # type: ignore[no-untyped-call]  # numpy 1.26 has no types for it


def _words(words: list[str]) -> NDArray[np.str_]:
    return np.array(words, np.str_)
