"""Modbus TCP: the points of one or more units on one line.

Neighbouring points are read in one request. What one block or one unit does wrong costs the readings of that block
or unit alone: these come with bad quality and no value, and the reason is logged once when it changes.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, model_validator

from contract.config import Config
from edge.errors import SourceError
from edge.reading import MetricInfo
from edge.sources.base import Source, SourceConfig
from edge.sources.modbus.blocks import plan_blocks
from edge.sources.modbus.line import ModbusLine
from edge.sources.modbus.points import MAX_REGISTERS, PointConfig
from edge.sources.modbus.unit import Budget, Unit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edge.reading import Reading
    from edge.sources.base import Clock

logger = logging.getLogger(__name__)

# Of a poll's time-out: one that meets many dead units ends by itself and delivers what the living ones said.
_BUDGET: Final = 0.9


class UnitConfig(Config):
    """One unit (slave) on the line and what is read from it."""

    unit_id: int = Field(ge=0, le=255, description="unit id, 1 to 247 behind a gateway; often 255 or 0 for the device")
    points: tuple[PointConfig, ...] = Field(min_length=1, description="what is read")


class ModbusConfig(SourceConfig):
    """A Modbus TCP line."""

    type: Literal["modbus"] = Field(description="kind of source")
    host: str = Field(min_length=1, description="name or address of the device or gateway")
    port: int = Field(default=502, ge=1, le=65_535, description="TCP port")
    request_timeout_s: float = Field(default=1.0, gt=0, le=60, description="seconds to wait for one answer")
    max_gap: int = Field(default=4, ge=0, le=100, description="unused addresses read along rather than asked apart")
    max_registers: int = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS, description="that one request may ask")
    units: tuple[UnitConfig, ...] = Field(min_length=1, description="the units on the line")

    @model_validator(mode="after")
    def _is_consistent(self) -> ModbusConfig:
        ids = sorted(unit.unit_id for unit in self.units)
        names = sorted(point.name for unit in self.units for point in unit.points)
        for what, values in (("unit_id", ids), ("point name", names)):
            twice = [str(a) for a, b in pairwise(values) if a == b]
            if twice:
                raise ValueError(f"{what} {twice[0]} stands here twice")
        for unit in self.units:
            for point in unit.points:
                if point.size > self.max_registers:
                    raise ValueError(f"point {point.name} takes {point.size} registers: max_registers is fewer")
        return self

    def metrics(self) -> list[MetricInfo]:
        """One metric per point."""
        return [
            MetricInfo(point.name, point.metric_type, point.unit, point.description)
            for unit in self.units
            for point in unit.points
        ]

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[ModbusSource]:
        """The source; its connection is opened by the first poll."""
        line = ModbusLine(self.host, self.port)
        try:
            yield ModbusSource(self, line, now_ms)
        finally:
            line.close()


class ModbusSource(Source):
    """An open Modbus line."""

    def __init__(self, config: ModbusConfig, line: ModbusLine, now_ms: Clock) -> None:
        self._config = config
        self._line = line
        self._now_ms = now_ms
        self._faults: dict[str, str] = {}
        self._units = [
            Unit(
                unit.unit_id,
                plan_blocks(unit.unit_id, unit.points, max_gap=config.max_gap, max_registers=config.max_registers),
                config.interval_s,
            )
            for unit in config.units
        ]

    async def poll(self) -> list[Reading]:
        """Every point of every unit, once; raises SourceError when the line is down or no unit answers at all."""
        deadline = asyncio.get_running_loop().time() + self._config.timeout_s * _BUDGET
        budget = Budget(deadline, self._config.request_timeout_s)
        # Units that did not answer last time come last: they may use up the time.
        order = sorted(self._units, key=lambda unit: unit.is_silent)
        outcomes = [await unit.poll(self._line, budget, self._now_ms) for unit in order]
        faults = {place: reason for outcome in outcomes for place, reason in outcome.faults.items()}
        answered = any(outcome.answered for outcome in outcomes)
        # A unit for which there was no time is not silent: it will be among the first to be asked next time.
        if not answered and (budget.line_fault is not None or all(unit.is_silent for unit in self._units)):
            for unit in self._units:
                unit.ask_at_once()  # the agent's back-off takes over
            place, reason = next(iter(faults.items()))
            raise SourceError(f"modbus {self._config.host}:{self._config.port}: nothing answered; {place}: {reason}")
        self._report(faults)
        return [reading for outcome in outcomes for reading in outcome.readings]

    def _report(self, faults: dict[str, str]) -> None:
        for place, reason in faults.items():
            if self._faults.get(place) != reason:
                logger.warning("%s: %s: %s", self._config.name, place, reason)
        for place in self._faults:
            if place not in faults:
                logger.info("%s: %s reads again", self._config.name, place)
        self._faults = faults
