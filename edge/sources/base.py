"""What a source is: a configuration that names its metrics and opens into something that can be polled.

The scheduler owns interval, time-out, back-off and log-once. A source only reads, and raises SourceError when
a whole poll brought nothing; a point that alone cannot be read is a Reading without value and with bad quality.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import Field, field_validator

from contract.config import Config
from contract.topics import check_identifier
from edge.errors import SourceError
from edge.reporting import ReportRule  # noqa: TC001 - pydantic reads the annotations at run time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from contract.datatypes import Value
    from edge.models.config import InferenceConfig
    from edge.reading import MetricInfo, Reading

    Clock = Callable[[], int]


class Source(Protocol):
    """An open source."""

    async def poll(self) -> list[Reading]:
        """The readings of one poll, possibly none; raises SourceError. Cancelled when its time-out has passed."""
        ...

    async def write(self, metric: str, value: Value) -> Reading:
        """Sets a metric that its MetricInfo calls writable, and reads it back; raises SourceError where it is refused.

        May be called while `poll` runs: the source puts it before the reads that are still to come.
        """
        raise SourceError(f"{metric} cannot be written: value {value!r} is refused")

    def details(self) -> Mapping[str, float | str]:
        """What a technician may want to know of this source beside its readings, such as the quota that is left."""
        return {}

    def remaining(self) -> list[Reading]:
        """What came since the last poll, asked once it is closed; only one that watches by itself has any."""
        return []


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which agent a source stands; `inference` is how models are tried there."""

    group: str
    node: str
    state_dir: Path
    inference: InferenceConfig


class SourceConfig(Config):
    """What every source has."""

    name: str = Field(description="Sparkplug device id of this source, unique in the agent")
    # Times are whole ms, and polls must not share one.
    interval_s: float = Field(ge=0.01, le=86_400, description="seconds from one poll to the next")
    timeout_s: float = Field(default=5.0, gt=0, le=600, description="seconds after which a poll is given up")
    report: tuple[ReportRule, ...] = Field(
        default=(), description="what is held back of metrics that hardly change, first rule first; none: nothing"
    )

    @field_validator("name")
    @classmethod
    def _name_is_identifier(cls, name: str) -> str:
        check_identifier(name, "device")
        return name

    @abstractmethod
    def metrics(self) -> Sequence[MetricInfo]:
        """Every metric this source can produce, for the device's birth."""

    def settle(self, place: Place) -> None:
        """The agent's configuration tells where it stands; most need not know."""

    def claims(self) -> str | None:
        """What no other source can use beside it, such as a serial port; None where there is no such thing."""
        return None

    def vitals(self) -> Mapping[str, MetricInfo]:
        """Which of an open source's `details` the node tells of itself, by key; names stand behind `Health/SOURCE/`."""
        return {}

    def explain(self) -> Sequence[str]:
        """Lines for `python -m edge check`: what polling this takes, such as requests, line time, quota."""
        return ()

    @abstractmethod
    def open(self, now_ms: Clock) -> AbstractAsyncContextManager[Source]:
        """The open source; `now_ms` is the agent's clock (UTC ms), which stamps what carries no time of its own."""
