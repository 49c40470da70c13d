"""Data as training has it, whatever its source."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contract.windows import Steps
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.windows import Mask, Times


@dataclass(frozen=True, slots=True)
class Incident:
    """When what was known to be wrong: UTC ms, the end is after it; `kind` as the source calls it."""

    kind: str
    start_ms: int
    end_ms: int
    what: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The series of one thing (a symbol, a turbine, a plant), and what was wrong with it."""

    key: str
    steps: Steps
    incidents: tuple[Incident, ...] = ()

    def last(self, count: int) -> Table:
        """Its last steps, and what was wrong in them."""
        steps = Steps(self.steps.at_ms[-count:], self.steps.values[-count:], self.steps.is_spoilt[-count:])
        return Table(self.key, steps, tuple(each for each in self.incidents if each.end_ms > int(steps.at_ms[0])))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Tables of the same columns; `columns` are what a recipe's inputs are called, in the order of `Steps.values`.

    `origin` says where it is from (package and version, or the simulator and its seed), `licence` under which terms.
    """

    name: str
    title: str
    origin: str
    licence: str
    step_s: float
    units: Mapping[str, str | None]
    tables: tuple[Table, ...]

    def __post_init__(self) -> None:
        """Raises DataError where there is nothing in it."""
        if not any(len(table.steps.at_ms) for table in self.tables):
            raise DataError(f"{self.name}: has no rows")

    @property
    def columns(self) -> tuple[str, ...]:
        """The inputs, in order."""
        return tuple(self.units)

    @property
    def from_at(self) -> dt.datetime:
        """Begin of the first step."""
        return _utc(min(int(table.steps.at_ms[0]) for table in self.tables if len(table.steps.at_ms)))

    @property
    def to_at(self) -> dt.datetime:
        """Begin of the last step."""
        return _utc(max(int(table.steps.at_ms[-1]) for table in self.tables if len(table.steps.at_ms)))

    @property
    def sha256(self) -> str:
        """Of all times, values and marks: the same data has the same."""
        digest = hashlib.sha256(repr((self.name, tuple(self.units.items()), self.step_s)).encode())
        for table in self.tables:
            digest.update(table.key.encode())
            for array in (table.steps.at_ms, table.steps.values, table.steps.is_spoilt):
                digest.update(array.tobytes())
        return digest.hexdigest()


def _utc(at_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC)


def runs(marked: Mask, at_ms: Times, step_ms: int) -> list[tuple[int, int]]:
    """Where rows are marked one after another without a gap in time: first row, and the one after the last."""
    goes_on = np.zeros(len(marked) + 1, bool)
    goes_on[1:-1] = marked[1:] & marked[:-1] & (np.diff(at_ms) == step_ms)
    starts = np.flatnonzero(marked & ~goes_on[:-1])
    ends = np.flatnonzero(marked & ~goes_on[1:]) + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
