"""The plant as a simulator."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from simulators.plant.faults import Fault, RandomFaults, check_unit
from simulators.plant.line import Plant
from simulators.plant.line_config import LineConfig
from simulators.plant.register_map import UNITS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from simulators.ledger import Ledger
    from simulators.plant.points import PlantPoint
    from simulators.simulator import Running


class PlantConfig(LineConfig):
    """A water-treatment line behind a Modbus server of four units."""

    type: Literal["plant"] = "plant"
    step_s: float = Field(default=0.1, ge=0.01, le=10.0, description="Time step of the physics, s")
    day_s: float = Field(default=86_400.0, gt=0, description="Length of a day of the plant, s: short ones show more")
    faults: tuple[Fault, ...] = Field(default=(), description="Faults at given times")
    random_faults: RandomFaults | None = Field(default=None, description="Faults drawn from the seed")

    @field_validator("faults")
    @classmethod
    def _units_are_there(cls, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
        for fault in faults:
            check_unit(fault, UNITS)
        return faults

    def units(self) -> Mapping[int, Sequence[PlantPoint]]:
        """Every unit's points."""
        return UNITS

    def scheduled_faults(self) -> tuple[Fault, ...]:
        """All faults of the scenario, given and drawn."""
        return (*self.faults, *(self.random_faults.draw(self.seed) if self.random_faults else ()))

    @asynccontextmanager
    async def run(self, ledger: Ledger) -> AsyncGenerator[Running]:
        """Serve Modbus, and take faults as lines of JSON at `control_port`."""
        plant = Plant(self.seed, self.scheduled_faults(), step_s=self.step_s, day_s=self.day_s)
        async with self.serve(plant, ledger, self.step_s) as running:
            yield running
