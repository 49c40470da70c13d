"""What one Modbus point is in the configuration: where it stands, what it is, and what makes sense together. No I/O."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, model_validator

from contract.config import Config
from contract.datatypes import INTEGERS, DataType
from edge.lane import Lane
from edge.reading import MetricInfo
from edge.sources.modbus.orders import ByteOrder, WordOrder  # noqa: TC001 - pydantic reads the annotations at run time

if TYPE_CHECKING:
    from collections.abc import Iterator

Table = Literal["coil", "discrete", "holding", "input"]
BIT_TABLES: Final = frozenset({"coil", "discrete"})
WRITABLE_TABLES: Final = frozenset({"coil", "holding"})
MAX_REGISTERS: Final = 125  # of one read: Modbus application protocol 1.1b3, 6.3
MAX_BITS: Final = 2000  # of one read: the same, 6.1
ADDRESSES: Final = 65_536

# Name in the configuration -> struct code of what the registers hold, Sparkplug type. All but bool and string.
NUMBERS: Final = {
    "int16": ("h", DataType.INT16),
    "uint16": ("H", DataType.UINT16),
    "int32": ("i", DataType.INT32),
    "uint32": ("I", DataType.UINT32),
    "int64": ("q", DataType.INT64),
    "uint64": ("Q", DataType.UINT64),
    "float32": ("f", DataType.FLOAT),
    "float64": ("d", DataType.DOUBLE),
    "bcd16": ("H", DataType.UINT16),
    "bcd32": ("I", DataType.UINT32),
}
_SWAPPED_ORDERS: Final = frozenset({"big-swapped", "little-swapped"})


class ValueFault(ValueError):  # noqa: N818 - not a failure of ours: what the registers hold is no value
    """Registers that hold no value of their type; the message says what they hold."""


class WriteLimits(Config):
    """That a point may be written, and with what."""

    min: float | None = Field(default=None, allow_inf_nan=False, description="smallest value allowed, in `unit`")
    max: float | None = Field(default=None, allow_inf_nan=False, description="greatest value allowed, in `unit`")
    multiple: bool = Field(
        default=False,
        description="write a single register or coil by function 16 or 15 too, for devices without 6 or 5",
    )


class PointConfig(Config):
    """One point of a device: where it is, what it is, and what it is called."""

    name: str = Field(min_length=1, max_length=200, description="metric name, unique in the source")
    table: Table = Field(description="coil and discrete hold bits, holding and input hold registers")
    address: int = Field(ge=0, lt=ADDRESSES, description="of the first register or bit, counted from 0")
    datatype: Literal[
        "bool",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float32",
        "float64",
        "bcd16",
        "bcd32",
        "string",
    ] = Field(description="what the registers hold")
    byte_order: ByteOrder = Field(default="big", description="of the two bytes in a register")
    word_order: WordOrder = Field(default="big", description="of the registers in a number")
    length: int | None = Field(default=None, ge=1, le=MAX_REGISTERS, description="registers of a string")
    bit: int | None = Field(default=None, ge=0, le=15, description="of a register, for a bool; 0 is the lowest")
    bits: tuple[int, int] | None = Field(
        default=None,
        description="first and last bit that hold the number, of a uint16, uint32 or uint64; 0 is the lowest",
    )
    scale: float | None = Field(default=None, allow_inf_nan=False, description="value = raw * scale + offset")
    offset: float | None = Field(default=None, allow_inf_nan=False, description="value = raw * scale + offset")
    exponent_at: int | None = Field(
        default=None,
        ge=0,
        lt=ADDRESSES,
        description="address, in the same table, of an int16 n in the same byte_order: raw is times 10^n (SunSpec)",
    )
    unit: str | None = Field(default=None, description="engineering unit of the (scaled) value")
    description: str | None = Field(default=None, description="what is measured")
    min: float | None = Field(
        default=None, allow_inf_nan=False, description="smallest plausible value, in `unit`; below it is no value"
    )
    max: float | None = Field(
        default=None, allow_inf_nan=False, description="greatest plausible value, in `unit`; above it is no value"
    )
    not_available: tuple[int | float, ...] = Field(
        default=(), description="what stands in the registers (0x8000) where there is no value; for a float the number"
    )
    texts: dict[int, str] | None = Field(
        default=None, min_length=1, description="what each number means; the metric is this text"
    )
    write: WriteLimits | None = Field(default=None, description="the point may be written by a command, within these")
    alarm: bool = Field(default=False, description="its readings go before all others, and are given up last")

    @model_validator(mode="after")
    def _parts_fit(self) -> PointConfig:
        for fault in (*_misfits_of_type(self), *_misfits_of_value(self), *_misfits_of_write(self)):
            raise ValueError(fault)
        return self

    @property
    def size(self) -> int:
        """How many registers, or bits of a bit table, it takes."""
        if self.datatype == "string":
            return self.length or 1
        return 1 if self.datatype == "bool" else struct.calcsize(NUMBERS[self.datatype][0]) // 2

    @property
    def span(self) -> range:
        """The addresses that one request must read for it: its own, and those up to its exponent."""
        end = self.address + self.size
        if self.exponent_at is None:
            return range(self.address, end)
        return range(min(self.address, self.exponent_at), max(end, self.exponent_at + 1))

    @property
    def is_scaled(self) -> bool:
        """Whether the value is computed from what the registers hold."""
        return self.scale is not None or self.offset is not None or self.exponent_at is not None

    @property
    def is_float(self) -> bool:
        """Whether the registers hold a floating-point number."""
        return self.datatype in {"float32", "float64"}

    @property
    def is_bcd(self) -> bool:
        """Whether each four bits hold a decimal digit."""
        return self.datatype in {"bcd16", "bcd32"}

    @property
    def metric_type(self) -> DataType:
        """The Sparkplug type of its readings: whatever is scaled becomes a DOUBLE."""
        if self.datatype == "bool":
            return DataType.BOOLEAN
        if self.datatype == "string" or self.texts is not None:
            return DataType.STRING
        return DataType.DOUBLE if self.is_scaled else NUMBERS[self.datatype][1]

    @property
    def raw_range(self) -> tuple[float, float]:
        """The smallest and greatest number that its registers, or `bits` of them, can hold; not for bool and string."""
        if self.bits is not None:
            return 0, 2 ** (self.bits[1] - self.bits[0] + 1) - 1
        if self.is_bcd:
            return 0, 10 ** (4 * self.size) - 1
        if self.datatype == "float32":
            return -_GREATEST_FLOAT32, _GREATEST_FLOAT32
        if self.datatype == "float64":
            return -_GREATEST_FLOAT64, _GREATEST_FLOAT64
        width = INTEGERS[NUMBERS[self.datatype][1]]
        return width.low, width.high

    def metric(self) -> MetricInfo:
        """What a birth says of it."""
        lane = Lane.ALARM if self.alarm else Lane.LIVE
        return MetricInfo(
            self.name, self.metric_type, self.unit, self.description, lane=lane, writable=self.write is not None
        )


(_GREATEST_FLOAT32,) = struct.unpack(">f", bytes.fromhex("7f7fffff"))
(_GREATEST_FLOAT64,) = struct.unpack(">d", bytes.fromhex("7fefffffffffffff"))


def _misfits_of_type(point: PointConfig) -> Iterator[str]:
    """What does not fit the table and the datatype."""
    is_bits, is_bool, is_string = point.table in BIT_TABLES, point.datatype == "bool", point.datatype == "string"
    width = 16 * point.size
    checks = (
        (is_bits and not is_bool, f"a {point.table} holds bits: its datatype can only be bool"),
        (is_bits and point.bit is not None, f"a {point.table} is one bit: leave out `bit`"),
        (is_bool and not is_bits and point.bit is None, "a bool of a register needs `bit` (0 to 15)"),
        (not is_bool and point.bit is not None, "`bit` is for a bool; a number in some bits has `bits: [first, last]`"),
        (is_string and point.length is None, "a string needs `length` (registers)"),
        (not is_string and point.length is not None, "`length` is for a string"),
        (is_string and point.word_order != "big", "the registers of a string have no word_order"),
        (
            point.word_order in _SWAPPED_ORDERS and width != 64,  # noqa: PLR2004 - bits
            f"word_order {point.word_order} is for 64 bits: allowed are big and little",
        ),
        (
            point.bits is not None and point.datatype not in {"uint16", "uint32", "uint64"},
            "`bits` is for a uint16, uint32 or uint64",
        ),
        (
            point.bits is not None and not 0 <= point.bits[0] <= point.bits[1] < width,
            f"`bits` is [first, last]: first not above last, both 0 to {width - 1}",
        ),
    )
    yield from (message for wrong, message in checks if wrong)
    if point.span.stop > ADDRESSES:
        yield f"it ends at address {point.span.stop - 1}: the last one is {ADDRESSES - 1}"
    limit = MAX_BITS if is_bits else MAX_REGISTERS
    if len(point.span) > limit:
        yield (
            f"from {point.span.start} to {point.span.stop - 1} are {len(point.span)} addresses: "
            f"{limit} are the most that one request may read"
        )


def _misfits_of_value(point: PointConfig) -> Iterator[str]:
    """What does not fit the value."""
    is_number = point.datatype not in {"bool", "string"}
    for key in ("scale", "offset", "exponent_at", "min", "max", "not_available", "texts"):
        if not is_number and getattr(point, key) not in (None, ()):
            yield f"a {point.datatype} has no {key}"
    if point.scale == 0:
        yield "a scale of 0 makes every value the same"
    if point.min is not None and point.max is not None and point.min > point.max:
        yield f"min {point.min:g} is above max {point.max:g}"
    if point.texts is not None and (point.is_float or point.is_scaled or (point.min, point.max) != (None, None)):
        yield "`texts` is for a whole number without scale, offset, exponent_at, min and max"
    if is_number:
        yield from _misfits_of_sentinels(point)
        least, greatest = point.raw_range
        for number in point.texts or ():
            if not least <= number <= greatest:
                yield f"texts: {number} does not fit {point.datatype}: {least:g} to {greatest:g} do"


def _misfits_of_sentinels(point: PointConfig) -> Iterator[str]:
    """What the registers cannot hold."""
    bits = 16 * point.size if point.bits is None else point.bits[1] - point.bits[0] + 1
    for number in point.not_available:
        low, high = point.raw_range if point.is_float else (-(2 ** (bits - 1)), 2**bits - 1)
        if not low <= number <= high:
            allowed = f"{low:g} to {high:g}" if point.is_float else f"0 to {high:#x}"
            yield f"not_available {number} does not fit {point.datatype}: {allowed} do"
        elif not point.is_float and number != int(number):
            yield f"not_available {number} is not a whole number"


def _misfits_of_write(point: PointConfig) -> Iterator[str]:
    """What does not fit writing."""
    if point.write is None:
        return
    low, high = point.write.min, point.write.max
    is_number = point.datatype not in {"bool", "string"} and point.texts is None
    if point.table not in WRITABLE_TABLES:
        yield f"a {point.table} cannot be written: only coil and holding can"
    if point.bit is not None or point.bits is not None:
        yield "`write` is for whole registers: setting bits of one would write back what the device has changed since"
    if point.texts is not None and len(set(point.texts.values())) < len(point.texts):
        yield "`write` needs each of the texts to mean one number"
    if point.exponent_at is not None:
        yield "`write` and `exponent_at` exclude each other: the exponent may have changed since it was read"
    if not is_number:
        if low is not None or high is not None:
            yield f"`write` of a {'text' if point.texts else point.datatype} has no min and max: write: {{}}"
    elif low is None or high is None:
        yield "`write` of a number needs min and max, in its unit"
    elif low > high:
        yield f"write.min {low:g} is above write.max {high:g}"
    else:
        yield from _limits_out_of_range(point, low, high)


def _limits_out_of_range(point: PointConfig, low: float, high: float) -> Iterator[str]:
    scale, offset = 1.0 if point.scale is None else point.scale, point.offset or 0.0

    def value_of(raw: float) -> float:
        return raw * scale + offset

    lowest, highest = sorted(value_of(raw) for raw in point.raw_range)
    for key, limit in (("min", low), ("max", high)):
        if not lowest <= limit <= highest:
            yield f"write.{key} {limit:g} does not fit {point.datatype}: {lowest:g} to {highest:g} do"
