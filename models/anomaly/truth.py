"""Which windows were normal and which were not, by what is known of the incidents."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from contract.manifest import View
    from models.data.dataset import Dataset, Incident
    from models.samples import Samples

    Mask: TypeAlias = NDArray[np.bool_]
    Times: TypeAlias = NDArray[np.int64]

# After an incident windows still hold steps of it, and then of the return to what is normal: neither is judged.
_AFTERMATH_WINDOWS: Final = 2


@dataclass(frozen=True, slots=True)
class Event:
    """An incident of a table (its number in the dataset)."""

    table: int
    incident: Incident

    @property
    def kind(self) -> str:
        """As the source calls it."""
        return self.incident.kind


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """`event` int64 [n]: in which of `events` a window's newest step lies, -1 for none; `is_normal` bool [n].

    A window that is neither ends within an incident's aftermath.
    """

    events: tuple[Event, ...]
    event: NDArray[np.int64]
    is_normal: Mask
    span_ms: int

    @property
    def is_incident(self) -> Mask:
        """Bool [n]."""
        return self.event >= 0

    @property
    def is_judged(self) -> Mask:
        """Bool [n]."""
        return self.is_incident | self.is_normal

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the events, each once, in order of the alphabet."""
        return tuple(sorted({each.kind for each in self.events}))

    def is_kind(self, kind: str) -> Mask:
        """Windows in an event of that kind, bool [n]."""
        wanted = np.array([each.kind == kind for each in self.events] + [False])
        return np.asarray(wanted[self.event], bool)


def truth_of(dataset: Dataset, view: View, samples: Samples) -> Truth:
    """By the newest step of each window; an incident in which no window ends is none."""
    step_ms, span_ms = view.window.step_ms, view.window.length * view.window.step_ms
    event = np.full(len(samples), -1, np.int64)
    is_normal = np.ones(len(samples), bool)
    events: list[Event] = []
    for table, each in enumerate(dataset.tables):
        mine = np.flatnonzero(samples.table == table)
        begin_ms = samples.end_ms[mine] - step_ms  # of the newest step, rising
        for incident in sorted(each.incidents, key=lambda one: one.start_ms):
            after_ms = incident.end_ms + _AFTERMATH_WINDOWS * span_ms
            edges = (incident.start_ms - step_ms + 1, incident.end_ms, after_ms)
            first, last, over = np.searchsorted(begin_ms, edges)
            is_normal[mine[first:over]] = False
            if last > first:
                event[mine[first:last]] = len(events)
                events.append(Event(table, incident))
    return Truth(tuple(events), event, is_normal, span_ms)


def blocks_of(truth: Truth, samples: Samples) -> NDArray[np.int64]:
    """A number for each window [n]: an event with what is around it, half-way to the next, is one block.

    What happens within is alike and is drawn together; tables without events are a block each.
    """
    block = np.zeros(len(samples), np.int64)
    first = 0
    for table in np.unique(samples.table):
        mine = samples.table == table
        edges = _edges([each.incident for each in truth.events if each.table == table])
        block[mine] = first + np.searchsorted(edges, samples.end_ms[mine], side="right")
        first += len(edges) + 1
    return block


def _edges(incidents: Sequence[Incident]) -> Times:
    """Half-way between one's end and the next one's begin."""
    return np.maximum.accumulate(
        np.array([(one.end_ms + other.start_ms) // 2 for one, other in pairwise(incidents)], np.int64)
    )
