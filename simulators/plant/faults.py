"""Faults of the plant: labelled, with a start and an end, from the scenario, from a seed or on demand.

Process faults change the physics, instrument faults what is shown, comms faults the answers.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, get_args

from pydantic import Field, field_validator

from contract.config import Config
from simulators.plant.line_faults import (
    Busy,
    CommsError,
    Corrupt,
    Dribble,
    Duplicate,
    Garbage,
    HalfOpen,
    Late,
    LineFault,
    ShortAnswer,
    Silent,
    SlowReply,
    TimedFault,
    Truncated,
    WrongFunction,
    WrongTransaction,
    WrongUnit,
)
from simulators.plant.process import Effects
from simulators.plant.register_map import POINTS, SHARING, UNITS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

PumpNumber: TypeAlias = Literal[1, 2]


class _OfPoint(TimedFault):
    point: str = Field(description="Name of the point")

    @field_validator("point")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in POINTS:
            raise ValueError(f"allowed are the plant's points, such as {next(iter(POINTS))}")
        return name


class Leak(TimedFault):
    """Water is lost from a tank."""

    kind: Literal["leak"] = "leak"
    tank: Literal[1, 2] = Field(default=1, description="1 raw water, 2 clean water")
    flow_m3_h: float = Field(default=60.0, gt=0, description="What is lost, m3/h")

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"leak tank{self.tank}"


class BearingWear(TimedFault):
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


class IllegalAddress(_OfPoint):
    """Every read that touches the point is refused with exception 2, as after a firmware update that removed it."""

    kind: Literal["illegal_address"] = "illegal_address"

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"illegal_address {self.point}"


AnyFault: TypeAlias = Leak | BearingWear | StuckSensor | IllegalAddress | LineFault
Fault: TypeAlias = Annotated[AnyFault, Field(discriminator="kind")]
# Those that need no more than a kind, a time and a unit.
_UNIT_FAULTS: Final[tuple[type[LineFault], ...]] = (
    CommsError,
    HalfOpen,
    Silent,
    Busy,
    SlowReply,
    Late,
    Duplicate,
    Truncated,
    ShortAnswer,
    WrongUnit,
    WrongTransaction,
    WrongFunction,
    Corrupt,
    Dribble,
    Garbage,
)
_BY_KIND: Final = {get_args(fault.model_fields["kind"].annotation)[0]: fault for fault in _UNIT_FAULTS}
Kind: TypeAlias = Literal[
    "leak",
    "bearing_wear",
    "stuck_sensor",
    "illegal_address",
    "comms_error",
    "half_open",
    "silent",
    "busy",
    "slow_reply",
    "late",
    "duplicate",
    "truncated",
    "short_answer",
    "wrong_unit",
    "wrong_transaction",
    "wrong_function",
    "corrupt",
    "dribble",
    "garbage",
]
_STICKING: Final = ("tank1/level", "quality/chlorine", "pump1/bearing_temperature")


class RandomFaults(Config):
    """Faults drawn from the seed, one after another."""

    mean_pause_s: float = Field(default=60.0, gt=0, description="Mean time from one to the next, s (exponential)")
    mean_duration_s: float = Field(default=10.0, gt=0, description="Mean duration, s (exponential)")
    until_s: float = Field(default=3600.0, gt=0, description="None starts later than this, s after the plant's start")
    kinds: tuple[Kind, ...] = Field(min_length=1, description="What is drawn from")

    def draw(self, seed: int) -> Iterator[AnyFault]:
        """The faults of a seed, in order."""
        rng = random.Random(f"plant faults {seed}")  # noqa: S311 - a simulation must be repeatable
        start_s = rng.expovariate(1.0 / self.mean_pause_s)
        while start_s < self.until_s:
            duration_s = max(rng.expovariate(1.0 / self.mean_duration_s), 1.0)
            yield _make(rng.choice(self.kinds), rng, start_s, duration_s)
            start_s += duration_s + rng.expovariate(1.0 / self.mean_pause_s)


def _make(kind: Kind, rng: random.Random, start_s: float, duration_s: float) -> AnyFault:
    """A fault of a kind somewhere in the plant."""
    when = {"start_s": start_s, "duration_s": duration_s}
    device, point, unit_id = rng.choice((1, 2)), rng.choice(_STICKING), rng.choice(tuple(UNITS))
    made: dict[str, AnyFault] = {
        "leak": Leak(tank=device, **when),
        "bearing_wear": BearingWear(pump=device, **when),
        "stuck_sensor": StuckSensor(point=point, **when),
        "illegal_address": IllegalAddress(point=point, **when),
    }
    return made[kind] if kind in made else _BY_KIND[kind](unit_id=unit_id, **when)


def check_unit(fault: AnyFault, unit_ids: Collection[int]) -> None:
    """Raises ValueError for a fault of a unit that is not there."""
    unit_id = getattr(fault, "unit_id", None)
    if unit_id is not None and unit_id not in unit_ids:
        raise ValueError(f"unit_id: found {unit_id}: allowed are the units {', '.join(map(str, unit_ids))}")


def effects(faults: Iterable[AnyFault]) -> Effects:
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
