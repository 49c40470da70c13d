"""What a Modbus source is in the configuration: the line, how it is used, and the units on it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from contract.config import Config
from contract.datatypes import DataType
from edge.reading import MetricInfo
from edge.sources.base import SourceConfig
from edge.sources.modbus.blocks import Forbidden  # noqa: TC001 - pydantic reads the annotations at run time
from edge.sources.modbus.budget import POLL_SHARE, SILENT_SHARE, Ask, LineTiming, Occupancy, counted, occupancy
from edge.sources.modbus.framing import read_request
from edge.sources.modbus.line import ModbusLine
from edge.sources.modbus.pieces import UnitPlan
from edge.sources.modbus.points import MAX_BITS, MAX_REGISTERS, PointConfig
from edge.sources.modbus.profile import with_profile
from edge.sources.modbus.source import ModbusSource
from edge.sources.modbus.transport import BAUDRATES, Parity
from edge.sources.modbus.unit import UnitTiming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edge.sources.base import Clock

# Seconds a device takes before it answers, where nothing is said: a PLC on a network, one on a serial line.
_TCP_RESPONSE_S = 0.002
_SERIAL_RESPONSE_S = 0.02


class LineConfig(Config):
    """A line: where it is, how messages travel on it, and what its devices need."""

    transport: Literal["tcp", "rtu_over_tcp", "serial"] = Field(
        default="tcp",
        description="Modbus TCP, RTU frames through a TCP port (a serial device server), or a serial port",
    )
    host: str | None = Field(default=None, min_length=1, description="name or address of the device or gateway")
    port: int = Field(default=502, ge=1, le=65_535, description="TCP port")
    device: str | None = Field(default=None, min_length=1, description="serial device, such as /dev/ttyUSB0")
    baudrate: int | None = Field(
        default=None, description="bits per second; for rtu_over_tcp that of the line behind it, for the line's budget"
    )
    parity: Parity = Field(default="none", description="of the serial line")
    stopbits: Literal[1, 2] = Field(default=1, description="of the serial line")
    request_timeout_s: float = Field(
        default=1.0, gt=0, le=60, description="seconds to wait for one answer, beside what its bytes take"
    )
    late_answer_s: float = Field(
        default=0.5,
        ge=0,
        le=60,
        description="RTU: seconds for which, after a time-out, nothing is asked because the answer may still come",
    )
    pause_s: float = Field(default=0.0, ge=0, le=10, description="seconds from an answer to the next request")
    release: bool = Field(
        default=False, description="close the connection after each poll, for devices that serve one client at a time"
    )
    response_s: float | None = Field(
        default=None, ge=0, le=60, description="seconds that a device takes before it answers, for the line's budget"
    )

    @model_validator(mode="after")
    def _is_one_line(self) -> LineConfig:
        serial = self.transport == "serial"
        needed, other = ("device", "host") if serial else ("host", "device")
        if getattr(self, needed) is None:
            raise ValueError(f"transport {self.transport} needs `{needed}`")
        if getattr(self, other) is not None:
            raise ValueError(f"transport {self.transport} has no `{other}`")
        if serial and self.baudrate not in BAUDRATES:
            allowed = ", ".join(str(rate) for rate in sorted(BAUDRATES) if rate >= 300)  # noqa: PLR2004 - the slowest met
            raise ValueError(f"transport serial needs `baudrate`, one of {allowed}")
        if self.transport == "tcp" and self.baudrate is not None:
            raise ValueError("transport tcp has no `baudrate`")
        return self

    @property
    def line_name(self) -> str:
        """The line, for a person."""
        return self.device or f"{self.host}:{self.port}"

    @property
    def timing(self) -> LineTiming:
        """What a message takes on it."""
        default_s = _TCP_RESPONSE_S if self.transport == "tcp" else _SERIAL_RESPONSE_S
        bits = 9 + (self.parity != "none") + self.stopbits
        return LineTiming(self.baudrate, bits, default_s if self.response_s is None else self.response_s)


class UnitConfig(Config):
    """One unit (slave) on the line and what is read from it."""

    unit_id: int = Field(ge=0, le=255, description="unit id, 1 to 247 on a serial line; of a TCP device often 255 or 0")
    profile: str | None = Field(default=None, description="device profile whose points and limits the unit has")
    only: tuple[str, ...] = Field(default=(), description="points of the profile that are read, a/* for all below a")
    prefix: str = Field(default="", max_length=100, description="put before the name of each point of the profile")
    points: tuple[PointConfig, ...] = Field(
        default=(), min_length=1, validate_default=True, description="what is read, beside the profile's points"
    )
    max_gap: int | None = Field(default=None, ge=0, le=100, description="max_gap of this unit; none: the line's")
    max_registers: int | None = Field(
        default=None, ge=1, le=MAX_REGISTERS, description="max_registers of this unit; none: the line's"
    )
    max_bits: int | None = Field(default=None, ge=1, le=MAX_BITS, description="max_bits of this unit; none: the line's")
    pause_s: float | None = Field(default=None, ge=0, le=10, description="pause_s before this unit; none: the line's")
    forbidden: tuple[Forbidden, ...] = Field(default=(), description="addresses that are never read")

    @model_validator(mode="after")
    def _names_a_profile(self) -> UnitConfig:
        if self.profile is None and (self.only or self.prefix):
            raise ValueError("`only` and `prefix` are about a profile: `profile` says which")
        return self

    @model_validator(mode="before")
    @classmethod
    def _with_profile(cls, document: object) -> object:
        return with_profile(document)


class ModbusConfig(LineConfig, SourceConfig):
    """A Modbus line and the units on it."""

    type: Literal["modbus"] = Field(description="kind of source")
    max_gap: int = Field(default=4, ge=0, le=100, description="unused addresses read along rather than asked apart")
    max_registers: int = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS, description="that one request may ask")
    max_bits: int = Field(default=MAX_BITS, ge=1, le=MAX_BITS, description="that one request may ask")
    busy_retry_s: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="seconds after which a busy unit is asked once more; none: not in this poll",
    )
    recheck_s: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="seconds after which an address found bad is tried again, at the latest",
    )
    units: tuple[UnitConfig, ...] = Field(min_length=1, description="the units on the line")

    @model_validator(mode="after")
    def _is_consistent(self) -> ModbusConfig:
        ids = sorted(unit.unit_id for unit in self.units)
        names = sorted(point.name for unit in self.units for point in unit.points)
        for what, values in (("unit_id", ids), ("point name", names)):
            twice = [str(a) for a, b in pairwise(values) if a == b]
            if twice:
                raise ValueError(f"{what} {twice[0]} stands here twice")
        if self.transport != "tcp" and ids[0] == 0:
            raise ValueError("unit_id 0 is everybody's on an RTU line, and nobody answers: allowed are 1 to 255")
        taken = self.occupancy()  # raises ValueError for a point that cannot be read
        for key, seconds, usable in (("interval_s", self.interval_s, 1.0), ("timeout_s", self.timeout_s, POLL_SHARE)):
            if taken.total_s > seconds * usable:
                raise ValueError(f"{key} {seconds:g} is too short: {taken.arithmetic(self.timing)}")
        return self

    def unit_plan(self, unit: UnitConfig) -> UnitPlan:
        """What is read from a unit and within which limits."""
        return UnitPlan(
            unit.unit_id,
            unit.points,
            _or(unit.max_gap, self.max_gap),
            _or(unit.max_registers, self.max_registers),
            _or(unit.max_bits, self.max_bits),
            unit.forbidden,
        )

    def unit_timing(self, unit: UnitConfig) -> UnitTiming:
        """How a unit is treated."""
        pause_s = self.pause_s if unit.pause_s is None else unit.pause_s
        return UnitTiming(self.interval_s, pause_s, self.busy_retry_s, self.recheck_s)

    def occupancy(self) -> Occupancy:
        """What one poll takes of the line as long as every unit answers."""
        asks = [
            Ask(read_request(block.unit_id, block.table, block.address, block.count), self.unit_timing(unit).pause_s)
            for unit in self.units
            for block in self.unit_plan(unit).blocks()
        ]
        return occupancy(asks, self.timing)

    def metrics(self) -> list[MetricInfo]:
        """One metric per point."""
        return [point.metric() for unit in self.units for point in unit.points]

    def claims(self) -> str | None:
        """Its serial port: two masters on one line take each other's answers."""
        return self.device

    def vitals(self) -> dict[str, MetricInfo]:
        """How busy the line is."""
        what = "share of the interval that the last poll took of the line"
        return {"line_occupancy_ratio": MetricInfo("Line Occupancy", DataType.DOUBLE, None, what)}

    def explain(self) -> list[str]:
        """How many requests a poll takes, and how much of the line."""
        taken = self.occupancy()
        share = taken.total_s / self.interval_s
        points = counted(len(self.metrics()), "point")
        silent_s = SILENT_SHARE * self.interval_s
        return [
            f"{self.transport} {self.line_name}: {points} of {counted(len(self.units), 'unit')}",
            f"{taken.arithmetic(self.timing)}, {share:.0%} of interval_s {self.interval_s:g}",
            f"a unit that does not answer costs up to {silent_s:.3g} s of a poll, and is asked less and less often",
        ]

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[ModbusSource]:
        """The source; its line is opened by the first poll."""
        line = ModbusLine(self)
        try:
            yield ModbusSource(self, line, now_ms)
        finally:
            line.close()


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
