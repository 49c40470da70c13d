"""What a source hands to the agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from contract.sparkplug import Quality
from edge.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.datatypes import DataType, Value
    from contract.sparkplug import Property


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What a birth says of a metric, known from the configuration before the first poll.

    `lane` is how urgent its readings are: `ALARM`, `LIVE` or `IMAGE`. A `writable` one can be set by a command.
    `when_lost` is what a poll that brought nothing tells of it; none: it has no value, and bad quality.
    """

    name: str
    datatype: DataType
    unit: str | None = None
    description: str | None = None
    lane: Lane = Lane.LIVE
    writable: bool = False
    when_lost: Value = None


class Reading(NamedTuple):
    """One value of one metric at one time (UTC ms); a point that could not be read has no value and bad quality.

    A tuple, because a poll of a thousand points makes a thousand of them: a frozen dataclass takes four times as long.
    """

    metric: str
    datatype: DataType
    value: Value
    sampled_at_ms: int
    quality: Quality = Quality.GOOD
    properties: Mapping[str, Property] | None = None
