"""What a source hands to the agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract.sparkplug import Quality

if TYPE_CHECKING:
    from contract.datatypes import DataType, Value


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What a birth says of a metric, known from the configuration before the first poll."""

    name: str
    datatype: DataType
    unit: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one metric at one time (UTC ms); a point that could not be read has no value and bad quality."""

    metric: str
    datatype: DataType
    value: Value
    sampled_at_ms: int
    quality: Quality = Quality.GOOD
