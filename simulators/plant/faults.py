"""Faults of the plant: labelled, with a start and an end, from the scenario, from a seed or on demand.

Process faults change the physics, instrument faults what is shown, comms faults the answers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import Field, field_validator

from contract.config import Config
from simulators.plant.process import Effects
from simulators.plant.register_map import POINTS, SHARING, UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PumpNumber: TypeAlias = Literal[1, 2]


class _Fault(Config):
    start_s: float = Field(default=0.0, ge=0, description="Start, s after the plant's (on demand: after now)")
    duration_s: float = Field(default=10.0, gt=0, description="How long it lasts, s")


class _OfPoint(_Fault):
    point: str = Field(description="Name of the point")

    @field_validator("point")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in POINTS:
            raise ValueError(f"allowed are the plant's points, such as {next(iter(POINTS))}")
        return name


class _OfUnit(_Fault):
    unit_id: int | None = Field(default=None, description="The unit; all of them where not given")

    @field_validator("unit_id")
    @classmethod
    def _is_known(cls, unit_id: int | None) -> int | None:
        if unit_id is not None and unit_id not in UNITS:
            raise ValueError(f"allowed are the units {', '.join(map(str, UNITS))}")
        return unit_id

    def concerns(self, unit_id: int) -> bool:
        """Whether requests to a unit meet the fault."""
        return self.unit_id in {None, unit_id}

    @property
    def _where(self) -> str:
        return "all units" if self.unit_id is None else f"unit {self.unit_id}"


class Leak(_Fault):
    """Water is lost from a tank."""

    kind: Literal["leak"] = "leak"
    tank: Literal[1, 2] = Field(default=1, description="1 raw water, 2 clean water")
    flow_m3_h: float = Field(default=60.0, gt=0, description="What is lost, m3/h")

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"leak tank{self.tank}"


class BearingWear(_Fault):
    """A bearing wears out: it heats up, shakes, and loads the motor."""

    kind: Literal["bearing_wear"] = "bearing_wear"
    pump: PumpNumber = Field(default=1, description="Pump number")
    life_s: float = Field(default=60.0, gt=0, description="From new to worn out, s")

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"bearing_wear pump{self.pump}"


class StuckSensor(_OfPoint):
    """A point goes on showing what it showed when the fault began."""

    kind: Literal["stuck_sensor"] = "stuck_sensor"

    @field_validator("point")
    @classmethod
    def _stands_alone(cls, name: str) -> str:
        if name in SHARING:
            raise ValueError("allowed are points that share their register with no other")
        return name

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"stuck_sensor {self.point}"


class CommsError(_OfUnit):
    """The connection is dropped in place of an answer."""

    kind: Literal["comms_error"] = "comms_error"

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"comms_error {self._where}"


class IllegalAddress(_OfPoint):
    """Every read that touches the point is refused with exception 2, as after a firmware update that removed it."""

    kind: Literal["illegal_address"] = "illegal_address"

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"illegal_address {self.point}"


class Busy(_OfUnit):
    """Requests are refused with exception 6."""

    kind: Literal["busy"] = "busy"

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"busy {self._where}"


class SlowReply(_OfUnit):
    """Answers come late."""

    kind: Literal["slow_reply"] = "slow_reply"
    delay_s: float = Field(default=0.5, gt=0, description="How late, s")

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"slow_reply {self._where}"


Fault: TypeAlias = Annotated[
    Leak | BearingWear | StuckSensor | CommsError | IllegalAddress | Busy | SlowReply, Field(discriminator="kind")
]
Kind: TypeAlias = Literal[
    "leak", "bearing_wear", "stuck_sensor", "comms_error", "illegal_address", "busy", "slow_reply"
]
_STICKING: Final = ("tank1/level", "quality/chlorine", "pump1/bearing_temperature")


class RandomFaults(Config):
    """Faults drawn from the seed, one after another."""

    mean_pause_s: float = Field(default=60.0, gt=0, description="Mean time from one to the next, s (exponential)")
    mean_duration_s: float = Field(default=10.0, gt=0, description="Mean duration, s (exponential)")
    until_s: float = Field(default=3600.0, gt=0, description="None starts later than this, s after the plant's start")
    kinds: tuple[Kind, ...] = Field(min_length=1, description="What is drawn from")

    def draw(self, seed: int) -> Iterator[Fault]:
        """The faults of a seed, in order."""
        rng = random.Random(f"plant faults {seed}")  # noqa: S311 - a simulation must be repeatable
        start_s = rng.expovariate(1.0 / self.mean_pause_s)
        while start_s < self.until_s:
            duration_s = max(rng.expovariate(1.0 / self.mean_duration_s), 1.0)
            yield _make(rng.choice(self.kinds), rng, start_s, duration_s)
            start_s += duration_s + rng.expovariate(1.0 / self.mean_pause_s)


def _make(kind: Kind, rng: random.Random, start_s: float, duration_s: float) -> Fault:
    """A fault of a kind somewhere in the plant."""
    when = {"start_s": start_s, "duration_s": duration_s}
    device, point, unit_id = rng.choice((1, 2)), rng.choice(_STICKING), rng.choice(tuple(UNITS))
    made: dict[Kind, Fault] = {
        "leak": Leak(tank=device, **when),
        "bearing_wear": BearingWear(pump=device, **when),
        "stuck_sensor": StuckSensor(point=point, **when),
        "illegal_address": IllegalAddress(point=point, **when),
        "comms_error": CommsError(unit_id=unit_id, **when),
        "busy": Busy(unit_id=unit_id, **when),
        "slow_reply": SlowReply(unit_id=unit_id, **when),
    }
    return made[kind]


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """A fault between two steps, the last not included."""

    fault: Fault
    from_step: int
    to_step: int


class Schedule:
    """Which faults act at which step; time only goes forward."""

    def __init__(self, faults: Iterable[Fault], step_s: float) -> None:
        self._step_s = step_s
        self._pending: list[ScheduledFault] = []
        self.active: tuple[ScheduledFault, ...] = ()
        for fault in faults:
            self.add(fault, 0)

    def add(self, fault: Fault, now_step: int) -> ScheduledFault:
        """Take in a fault whose start counts from a step; it acts from the next step at the earliest."""
        from_step = max(now_step + round(fault.start_s / self._step_s), now_step + 1)
        to_step = from_step + max(round(fault.duration_s / self._step_s), 1)
        scheduled = ScheduledFault(fault, from_step, to_step)
        self._pending.append(scheduled)
        self._pending.sort(key=lambda pending: pending.from_step)
        return scheduled

    def move_to(self, step: int) -> tuple[list[ScheduledFault], list[ScheduledFault]]:
        """What starts and what ends with this step."""
        ended = [scheduled for scheduled in self.active if scheduled.to_step <= step]
        started = []
        while self._pending and self._pending[0].from_step <= step:
            started.append(self._pending.pop(0))
        if started or ended:
            self.active = (*(s for s in self.active if s.to_step > step), *started)
        return started, ended


def effects(faults: Iterable[Fault]) -> Effects:
    """What the faults that act do to the physics; leaks of one tank add up."""
    leaks, wear = [0.0, 0.0], [0.0, 0.0]
    for fault in faults:
        match fault:
            case Leak():
                leaks[fault.tank - 1] += fault.flow_m3_h
            case BearingWear():
                wear[fault.pump - 1] += 1.0 / fault.life_s
            case _:
                pass
    return Effects((leaks[0], leaks[1]), (wear[0], wear[1]))
