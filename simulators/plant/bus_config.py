"""The bus as a simulator: units that are alike, whose values say where and when they were read."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from contract.config import Config
from simulators.plant.bus import Bus, Run
from simulators.plant.faults import check_unit
from simulators.plant.line_config import LineConfig
from simulators.plant.line_faults import LineFault
from simulators.plant.points import Kind, Order, PlantPoint, Table

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from simulators.ledger import Ledger
    from simulators.simulator import Running

_ADDRESSES = 65_536
Fault: TypeAlias = Annotated[LineFault, Field(discriminator="kind")]


class RunConfig(Config):
    """Points of one kind at even distances, in every unit."""

    table: Table = Field(description="coil and discrete hold bits, holding and input registers")
    address: int = Field(default=0, ge=0, lt=_ADDRESSES, description="Of the first point")
    count: int = Field(ge=1, le=_ADDRESSES, description="How many points")
    datatype: Literal["bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"] = Field(
        description="What each is"
    )
    spacing: int | None = Field(default=None, ge=1, description="Addresses from point to point; none: no gaps")
    byte_order: Order = Field(default=Order.BIG, description="Of the two bytes in a register")
    word_order: Order = Field(default=Order.BIG, description="Of the registers in a value")
    value: float | None = Field(default=None, allow_inf_nan=False, description="Of all of them; none: stamps")
    writable: bool = Field(default=False, description="Whether clients may write to them")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.table.of_bits != (self.datatype == "bool"):
            raise ValueError(f"a {self.table} is {'bool alone' if self.table.of_bits else 'no bool'}")
        if self.writable and self.table not in {Table.COIL, Table.HOLDING}:
            raise ValueError(f"a {self.table} cannot be written")
        if self.run.spacing < self.run.width:
            raise ValueError(f"spacing: a {self.datatype} takes {self.run.width} addresses")
        if self.run.end > _ADDRESSES:
            raise ValueError(f"it ends at {self.run.end - 1}: the last address is {_ADDRESSES - 1}")
        return self

    @property
    def run(self) -> Run:
        """The run itself."""
        kind = Kind(self.datatype)
        return Run(
            self.table,
            self.address,
            self.count,
            kind,
            self.spacing or PlantPoint("", self.table, 0, kind, "").width,
            self.byte_order,
            self.word_order,
            self.value,
            self.writable,
        )


class BusConfig(LineConfig):
    """Many Modbus units that are alike, with values that say where and when they were read."""

    type: Literal["bus"] = "bus"
    unit_ids: tuple[Annotated[int, Field(ge=0, le=255)], ...] = Field(
        min_length=1, description="The units that are there; a text such as 1-10 or 1-4, 17 says the same"
    )
    points: tuple[RunConfig, ...] = Field(min_length=1, description="What each unit holds")
    hole: int = Field(
        default=8, ge=0, description="Unused addresses between points that read as zero; more are illegal"
    )
    step_s: float = Field(default=0.1, ge=0.001, le=3600.0, description="How long values stay as they are, s")
    notes: bool = Field(default=False, description="Whether the ledger has every value that is served: it costs time")
    faults: tuple[Fault, ...] = Field(default=(), description="Faults at given times")

    @field_validator("unit_ids", mode="before")
    @classmethod
    def _from_text(cls, found: Any) -> Any:  # noqa: ANN401 - whatever YAML held; the field checks it afterwards
        if not isinstance(found, str):
            return [found] if isinstance(found, int) else found
        spans = [part.strip().partition("-") for part in found.split(",")]
        if not all(low.isdecimal() and (high.isdecimal() or not dash) for low, dash, high in spans):
            raise ValueError("allowed are ids and spans of them, such as 1-10, 17")
        return [unit_id for low, _, high in spans for unit_id in range(int(low), min(int(high or low), 255) + 1)]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for fault in self.faults:
            check_unit(fault, self.unit_ids)
        for table in Table:
            runs = sorted((config.run for config in self.points if config.table is table), key=lambda run: run.address)
            for one, other in pairwise(runs):
                if other.address < one.end:
                    raise ValueError(f"points: the {table} runs at {one.address} and {other.address} overlap")
        return self

    def units(self) -> Mapping[int, Sequence[PlantPoint]]:
        """Every unit's points."""
        return self._bus().points

    @asynccontextmanager
    async def run(self, ledger: Ledger) -> AsyncGenerator[Running]:
        """Serve Modbus, and take faults as lines of JSON at `control_port`."""
        async with self.serve(self._bus(), ledger, self.step_s) as running:
            yield running

    def _bus(self) -> Bus:
        runs = [config.run for config in self.points]
        return Bus(self.unit_ids, runs, self.faults, step_s=self.step_s, hole=self.hole, notes=self.notes)
