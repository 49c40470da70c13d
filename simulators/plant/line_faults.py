"""Faults of the line and of how units answer: what a master must neither stumble over nor take for a value.

Each concerns a unit or all, and of the requests to it a `share`, drawn from the seed. A dead unit is a `silent` one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pydantic import Field

from contract.config import Config
from simulators.plant.points import Table  # noqa: TC001 - pydantic reads the annotations at run time

if TYPE_CHECKING:
    from simulators.plant.memory import Block

LONGEST_S: Final = 1e8  # three years


class TimedFault(Config):
    """What has a start and an end."""

    start_s: float = Field(
        default=0.0, ge=0, le=LONGEST_S, description="Start, s after the plant's (on demand: after now)"
    )
    duration_s: float = Field(default=10.0, gt=0, le=LONGEST_S, description="How long it lasts, s")


class UnitFault(TimedFault):
    """What the requests to a unit meet."""

    unit_id: int | None = Field(default=None, ge=0, le=255, description="The unit; all of them where not given")
    share: float = Field(default=1.0, gt=0, le=1, description="Of the requests, how many meet it")

    def concerns(self, unit_id: int) -> bool:
        """Whether requests to a unit meet the fault."""
        return self.unit_id is None or self.unit_id == unit_id

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        where = "all units" if self.unit_id is None else f"unit {self.unit_id}"
        often = "" if self.share == 1 else f" {self.share:g}"
        return f"{getattr(self, 'kind')} {where}{often}"  # noqa: B009 - each kind of its own declares it


class CommsError(UnitFault):
    """The connection is dropped in place of an answer (a serial line: no answer)."""

    kind: Literal["comms_error"] = "comms_error"


class HalfOpen(UnitFault):
    """The connection stays open and is never answered again; a new one is (a serial line: no answer)."""

    kind: Literal["half_open"] = "half_open"


class Silent(UnitFault):
    """No answer."""

    kind: Literal["silent"] = "silent"


class Busy(UnitFault):
    """Requests are refused with exception 6."""

    kind: Literal["busy"] = "busy"


class SlowReply(UnitFault):
    """Answers come late, and the requests behind them wait."""

    kind: Literal["slow_reply"] = "slow_reply"
    delay_s: float = Field(default=0.5, gt=0, description="How late, s")


class Late(UnitFault):
    """Answers come late, while later requests are answered before them."""

    kind: Literal["late"] = "late"
    delay_s: float = Field(default=0.5, gt=0, description="How late, s")


class Duplicate(UnitFault):
    """Answers come twice."""

    kind: Literal["duplicate"] = "duplicate"
    delay_s: float = Field(default=0.0, ge=0, description="The second after the first, s")


class Truncated(UnitFault):
    """Answers end in the middle."""

    kind: Literal["truncated"] = "truncated"


class ShortAnswer(UnitFault):
    """Answers are whole and hold fewer registers than were asked for."""

    kind: Literal["short_answer"] = "short_answer"


class WrongUnit(UnitFault):
    """Answers bear another unit's id and hold what nobody asked for."""

    kind: Literal["wrong_unit"] = "wrong_unit"


class WrongTransaction(UnitFault):
    """Answers bear another transaction id and hold what nobody asked for; only Modbus TCP has one."""

    kind: Literal["wrong_transaction"] = "wrong_transaction"


class WrongFunction(UnitFault):
    """Answers bear another function code and hold what nobody asked for."""

    kind: Literal["wrong_function"] = "wrong_function"


class Corrupt(UnitFault):
    """A bit of the answer is flipped on its way; not on Modbus TCP, whose checksum is TCP's."""

    kind: Literal["corrupt"] = "corrupt"


class Dribble(UnitFault):
    """Answers come byte by byte."""

    kind: Literal["dribble"] = "dribble"
    pause_s: float = Field(default=0.002, ge=0, le=1, description="Between two bytes, s")


class Garbage(UnitFault):
    """Bytes that nobody sent come before an answer."""

    kind: Literal["garbage"] = "garbage"
    most: int = Field(default=12, ge=1, le=200, description="Bytes at most")


class ForbiddenAddress(UnitFault):
    """Every read and write that touches one address is refused with exception 2."""

    kind: Literal["forbidden_address"] = "forbidden_address"
    table: Table = Field(description="Its table")
    address: int = Field(ge=0, le=65_535, description="The address")

    def forbids(self, block: Block) -> bool:
        """Whether a block is refused."""
        touched = block.address <= self.address < block.end
        return touched and block.table is self.table and self.concerns(block.unit_id)

    @property
    def label(self) -> str:
        """What the ledger calls it."""
        return f"{super().label} {self.table} {self.address}"


LineFault: TypeAlias = (
    CommsError
    | HalfOpen
    | Silent
    | Busy
    | SlowReply
    | Late
    | Duplicate
    | Truncated
    | ShortAnswer
    | WrongUnit
    | WrongTransaction
    | WrongFunction
    | Corrupt
    | Dribble
    | Garbage
    | ForbiddenAddress
)
