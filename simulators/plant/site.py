"""What stands behind a Modbus line, as the server sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from simulators.ledger import Value
    from simulators.plant.faults import AnyFault
    from simulators.plant.memory import Block
    from simulators.plant.schedule import ScheduledFault


class Content(NamedTuple):
    """What a read is answered with: the bytes, and for the ledger the value of every point wholly in them."""

    data: bytes
    values: Mapping[str, Value]


class Site(Protocol):
    """Units with registers, which move on step by step, and the faults that act on them."""

    @property
    def step(self) -> int:
        """The step it is at."""
        ...

    @property
    def active(self) -> Sequence[ScheduledFault]:
        """The faults that act at this step."""
        ...

    @property
    def unit_ids(self) -> Collection[int]:
        """The units that are there."""
        ...

    def move_to(self, step: int) -> tuple[Sequence[ScheduledFault], Sequence[ScheduledFault]]:
        """Move on to a step; the faults that started and ended on the way."""
        ...

    def inject(self, fault: AnyFault) -> ScheduledFault:
        """Put in a fault by hand; its start counts from now."""
        ...

    def content(self, block: Block) -> Content:
        """The answer to a read of a unit that is there; raises RefusedError."""
        ...

    def write(self, block: Block, words: Sequence[int]) -> Mapping[str, Value]:
        """Take in what is written to a unit that is there; the points' new values. Raises RefusedError."""
        ...

    def names(self, unit_id: int, block: Block | None = None) -> list[str]:
        """The points of a unit, or those that lie wholly in a block of it."""
        ...
