"""What befalls a node, and when: seconds since the fleet's start, drawn from the seed. Pure."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from simulators.fleet.roster import drawn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from simulators.fleet.config import Churn, FleetConfig, RandomOutages
    from simulators.fleet.roster import Member

_SHORTEST_S: Final = 0.2


class State(IntEnum):
    """What a node is at a time; of several that it would be at once, the last here."""

    UP = 0
    SILENT = 1
    """Its line is dead, and neither it nor the broker has been told."""
    CUT = 2
    """It has lost its line."""
    AWAY = 3
    """It has said goodbye, and is switched off."""
    KILLED = 4
    """It was switched off."""

    @property
    def is_off(self) -> bool:
        """Whether it samples nothing."""
        return self >= State.AWAY


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From when to when a node is something else than up."""

    start_s: float
    end_s: float
    state: State


def spans(config: FleetConfig, member: Member) -> Iterator[Span]:
    """All that befalls a node, in the order in which it begins; it may never end."""
    seed, number, site = config.seed, member.number, member.site
    ways: list[Iterable[Span]] = [
        sorted(
            Span(one.start_s, one.start_s + one.duration_s, State.SILENT if one.silent else State.CUT)
            for one in config.outages
            if one.site in {None, site}
        )
    ]
    if config.churn is not None and member.churns:
        ways.append(_absences(config.churn, drawn(seed, "absences", number)))
    if config.node_outages is not None:
        ways.append(_outages(config.node_outages, drawn(seed, "outages of node", number)))
    if config.site_outages is not None:
        ways.append(_outages(config.site_outages, drawn(seed, "outages of site", site)))
    return heapq.merge(*ways)


def _absences(churn: Churn, chance: Random) -> Iterator[Span]:
    # Some have not come yet when the fleet starts.
    is_up = chance.random() < churn.mean_up_s / (churn.mean_up_s + churn.mean_away_s)
    at_s = _about(churn.mean_up_s, chance) if is_up else 0.0
    while True:
        end_s = at_s + _about(churn.mean_away_s, chance)
        yield Span(at_s, end_s, State.KILLED if chance.random() < churn.killed else State.AWAY)
        at_s = end_s + _about(churn.mean_up_s, chance)


def _outages(outages: RandomOutages, chance: Random) -> Iterator[Span]:
    end_s = 0.0
    while True:
        start_s = end_s + _about(outages.mean_pause_s, chance)
        end_s = start_s + _about(outages.mean_duration_s, chance)
        yield Span(start_s, end_s, State.SILENT if chance.random() < outages.silent else State.CUT)


def _about(mean_s: float, chance: Random) -> float:
    """Exponentially distributed, as what comes by chance is."""
    return max(_SHORTEST_S, chance.expovariate(1 / mean_s))


class Timeline:
    """A node's spans as time goes on; asked about times that do not go back."""

    def __init__(self, spans: Iterator[Span]) -> None:
        self._spans = spans
        self._next = next(spans, None)
        self._now: list[Span] = []

    def at(self, now_s: float) -> State:
        """What the node is then."""
        while self._next is not None and self._next.start_s <= now_s:
            self._now.append(self._next)
            self._next = next(self._spans, None)
        self._now = [span for span in self._now if span.end_s > now_s]
        return max((span.state for span in self._now), default=State.UP)

    @property
    def changes_at_s(self) -> float:
        """Until when what `at` said last holds; infinite where nothing more comes."""
        ends = (span.end_s for span in self._now)
        return min([*ends, math.inf if self._next is None else self._next.start_s])
