"""What goes wrong in front of a camera, and when: by seeded schedules, or on demand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import Field, model_validator

from contract.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

_STREAM: Final = 4


class IncidentKind(StrEnum):
    """The label of an incident."""

    INTRUSION = "intrusion"
    SMOKE = "smoke"
    LENS_COVERED = "lens_covered"
    FROZEN = "frozen"
    LENS_DEFOCUSED = "lens_defocused"
    CAMERA_MOVED = "camera_moved"
    LIGHTS_OUT = "lights_out"
    REARRANGED = "rearranged"


@dataclass(frozen=True, slots=True, order=True)
class PlannedIncident:
    """An incident that lasts from `from_ms` up to, but not including, `to_ms` (UTC)."""

    from_ms: int
    to_ms: int
    kind: IncidentKind

    def lasts_at(self, at_ms: int) -> bool:
        """Whether it is under way."""
        return self.from_ms <= at_ms < self.to_ms


class IncidentSchedule(Config):
    """One incident in each period; periods are counted from the epoch, so a replay sees the same ones."""

    kinds: tuple[IncidentKind, ...] = Field(
        default=tuple(IncidentKind), min_length=1, description="What may happen; each period draws one of them"
    )
    every_s: float = Field(default=300.0, ge=1, description="Length of a period, seconds")
    duration_s: float = Field(default=15.0, ge=0.1, description="How long an incident lasts, seconds")
    at_s: float | None = Field(
        default=None, ge=0, description="Where in its period it starts, seconds; drawn from the seed where not given"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.at_s or 0) + self.duration_s > self.every_s:
            raise ValueError(f"an incident of {self.duration_s} s does not fit into its period of {self.every_s} s")
        return self

    def planned(self, seed: int, schedule_no: int, at_ms: int) -> PlannedIncident:
        """The incident of the period that a UTC time falls into."""
        period = math.floor(at_ms / 1000 / self.every_s)
        rng = np.random.default_rng([seed, _STREAM, schedule_no, period])
        place, kind = rng.uniform(), int(rng.integers(len(self.kinds)))
        offset_s = float(place) * (self.every_s - self.duration_s) if self.at_s is None else self.at_s
        from_ms = round(1000 * (period * self.every_s + offset_s))
        return PlannedIncident(from_ms, from_ms + round(1000 * self.duration_s), self.kinds[kind])


class IncidentPlan:
    """Every incident of a camera: those of its schedules, and those that were asked for."""

    def __init__(self, seed: int, schedules: Iterable[IncidentSchedule] = ()) -> None:
        self._seed = seed
        self._schedules = tuple(schedules)
        self._demanded: list[PlannedIncident] = []

    def demand(self, incident: PlannedIncident) -> None:
        """Add an incident to those planned."""
        self._demanded.append(incident)

    def at(self, at_ms: int) -> frozenset[PlannedIncident]:
        """The incidents under way at a UTC time."""
        scheduled = (schedule.planned(self._seed, i, at_ms) for i, schedule in enumerate(self._schedules))
        return frozenset(incident for incident in (*scheduled, *self._demanded) if incident.lasts_at(at_ms))
