"""From scores to incidents: one row from start to end, with the readings that made it so."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from contract.config import Config
from stream.analysis import rounds
from stream.analysis.evidence import PLACES, Evidence
from stream.analysis.rounds import SlotState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Times
    from stream.analysis.scores import Scores

_NONE, _BEGINNING, _OPEN = range(3)
LASTS: Final = -1


class IncidentConfig(Config):
    """When scores of a detector are an incident; steps are the series' own."""

    threshold: float = Field(5.0, gt=0, description="in the detector's unit; a score above it begins an incident")
    clear: float = Field(2.5, gt=0, description="in the detector's unit; the incident lasts until a score is below it")
    least_steps: int = Field(3, ge=1, description="unusual steps that make an incident; fewer are not told")
    join_steps: int = Field(6, ge=0, description="steps of calm within an incident at most; after more it has ended")
    silence_s: float = Field(3600, gt=0, description="seconds without a step after which it ended with the last one")
    told_every_steps: int = Field(
        30, ge=1, description="steps between two rows at least of an incident that gets worse"
    )

    @model_validator(mode="after")
    def _clears_below_its_threshold(self) -> Self:
        if self.clear > self.threshold:
            raise ValueError(f"clear {self.clear} is above threshold {self.threshold}; it must not be")
        return self


class Reading(NamedTuple):
    """A step of an incident."""

    at_ms: int
    value: float
    expected: float
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class IncidentRows:
    """Incidents as they are told, in order of slot and of time within a slot, all [n].

    A later row of the same slot and `started_at_ms` takes the place of an earlier one. `ended_at_ms` is LASTS for one
    that lasts. Start and end are the first and the last unusual step. `steps` int32 is how many of the places of the
    evidence are used: `at_ms`, `value`, `expected` and `score` [n, PLACES], in order of time.
    """

    slot: Slots
    started_at_ms: Times
    ended_at_ms: Times
    peak_at_ms: Times
    peak_score: Floats
    steps: NDArray[np.int32]
    at_ms: Times
    value: Floats
    expected: Floats
    score: Floats

    def readings(self, row: int) -> list[Reading]:
        """Of an incident: the first, the worst and the last ones."""
        columns = (
            column[row, : self.steps[row]].tolist() for column in (self.at_ms, self.value, self.expected, self.score)
        )
        return [Reading(*each) for each in zip(*columns, strict=True)]

    def latest(self) -> Self:
        """The last row of each incident alone."""
        is_last = np.ones(len(self.slot), bool)
        is_last[:-1] = (self.slot[1:] != self.slot[:-1]) | (self.started_at_ms[1:] != self.started_at_ms[:-1])
        return self._where(np.flatnonzero(is_last))

    def in_order(self) -> Self:
        """By slot; those of a slot stay as they are."""
        return self._where(np.argsort(self.slot, kind="stable"))

    def _where(self, chosen: NDArray[np.intp]) -> Self:
        return type(self)(*(getattr(self, each.name)[chosen] for each in fields(self)))


_FIELDS: Final = {
    "phase": rounds.Field(_NONE, np.int8),
    "is_unusual": rounds.Field(0, np.bool_),
    "seen_ms": rounds.Field(0, np.int64),
    "started_ms": rounds.Field(0, np.int64),
    "last_ms": rounds.Field(0, np.int64),
    "peak_ms": rounds.Field(0, np.int64),
    "peak": rounds.Field(0.0),
    "unusual": rounds.Field(0, np.int32),  # steps
    "calm": rounds.Field(0, np.int32),  # steps since the last unusual one
    "untold": rounds.Field(0, np.int32),  # steps since the last row
    "is_worse": rounds.Field(0, np.bool_),  # than that row says
}


class Incidents:
    """Hysteresis, a least duration, and pauses that join what lies around them, for the scores of one detector."""

    FORMAT: ClassVar[int] = 1

    def __init__(self, settings: IncidentConfig, arrays: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        self._settings = settings
        self._state = SlotState(_FIELDS, arrays)
        self._evidence = Evidence(arrays)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state."""
        return self._state.arrays() | self._evidence.arrays()

    def grow(self, slots: int) -> None:
        """Room for new series."""
        self._state.grow(slots)

    def advance(self, scores: Scores, complete_ms: Times | None = None) -> IncidentRows:
        """The incidents that open, get worse or end with these scores.

        `complete_ms` int64 [slots]: up to when no score is missing any more. By it an incident ends whose series has
        gone silent; without it, it ends when the series comes back.
        """
        told = [_no_rows()]
        for places in rounds.rounds(scores.slot):
            told += self._stepped(scores.where(places))
        if complete_ms is not None:
            told += self._silenced(np.flatnonzero(self._state["phase"] != _NONE).astype(np.int32), complete_ms)
        self._evidence.keep(self._state["phase"] != _NONE)
        rows = (np.concatenate([getattr(each, name.name) for each in told]) for name in fields(IncidentRows))
        return IncidentRows(*rows).in_order()

    def _silenced(self, slot: Slots, complete_ms: Times) -> Iterator[IncidentRows]:
        is_silent = complete_ms[slot] - self._state["seen_ms"][slot] > self._settings.silence_s * 1000
        yield from self._ended(slot[is_silent])

    def _stepped(self, scores: Scores) -> Iterator[IncidentRows]:
        """What the next score of these series makes of them."""
        state, settings, slot = self._state, self._settings, scores.slot
        was_silent = scores.at_ms - state["seen_ms"][slot] > settings.silence_s * 1000
        yield from self._ended(slot[was_silent & (state["phase"][slot] != _NONE)])
        phase = state["phase"][slot]
        lasts = (phase != _NONE) & state["is_unusual"][slot]
        is_unusual = np.where(lasts, scores.score >= settings.clear, scores.score > settings.threshold)
        state.put(slot, seen_ms=scores.at_ms, is_unusual=is_unusual)
        self._begin(scores.where(is_unusual & (phase == _NONE)))
        self._note(scores.where(is_unusual))
        calm = slot[~is_unusual & (phase != _NONE)]
        state["calm"][calm] += 1
        yield from self._told(slot)
        yield from self._ended(calm[state["calm"][calm] > settings.join_steps])

    def _begin(self, scores: Scores) -> None:
        zero = np.zeros(len(scores.slot), np.int32)
        self._state.put(
            scores.slot, phase=zero + _BEGINNING, started_ms=scores.at_ms, peak=zero - np.inf, unusual=zero, untold=zero
        )
        self._evidence.begin(scores.slot)

    def _note(self, scores: Scores) -> None:
        state, slot = self._state, scores.slot
        worse = scores.where(scores.score > state["peak"][slot])
        is_worse = np.ones(len(worse.slot), np.bool_)
        state.put(worse.slot, peak=worse.score, peak_ms=worse.at_ms, is_worse=is_worse)
        state.put(slot, last_ms=scores.at_ms, calm=np.zeros(len(slot), np.int32), unusual=state["unusual"][slot] + 1)
        self._evidence.add(scores)

    def _told(self, slot: Slots) -> Iterator[IncidentRows]:
        """Those that are incidents from now on, and those that have got worse for long enough."""
        state, settings = self._state, self._settings
        opens = (state["phase"][slot] == _BEGINNING) & (state["unusual"][slot] >= settings.least_steps)
        state["untold"][slot] += 1
        is_due = state["is_worse"][slot] & (state["untold"][slot] >= settings.told_every_steps)
        told = slot[opens | (is_due & (state["phase"][slot] == _OPEN))]
        zero = np.zeros(len(told), np.int32)
        state.put(told, phase=zero + _OPEN, untold=zero, is_worse=zero)
        if len(told):
            yield self._rows(told, np.full(len(told), LASTS, np.int64))

    def _ended(self, slot: Slots) -> Iterator[IncidentRows]:
        """What was no incident yet is forgotten."""
        was_open = slot[self._state["phase"][slot] == _OPEN]
        if len(was_open):
            yield self._rows(was_open, self._state["last_ms"][was_open])
        self._state.put(slot, phase=np.zeros(len(slot), np.int8), calm=np.zeros(len(slot), np.int32))

    def _rows(self, slot: Slots, ended_at_ms: Times) -> IncidentRows:
        row = self._state.row
        steps, at_ms, value, expected, score = self._evidence.of(slot)
        return IncidentRows(
            slot,
            row("started_ms", slot),
            ended_at_ms,
            row("peak_ms", slot),
            row("peak", slot),
            steps,
            at_ms,
            value,
            expected,
            score,
        )


def _no_rows() -> IncidentRows:
    times, wide = np.empty(0, np.int64), np.empty((0, PLACES))
    steps = np.empty(0, np.int32)
    return IncidentRows(steps, times, times, times, np.empty(0), steps, wide.astype(np.int64), wide, wide, wide)
