"""What a unit is asked in one poll: its plan, the requests of that, and what one was parted into. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from edge.sources.modbus.blocks import Block, Forbidden, plan_blocks
from edge.sources.modbus.framing import Request, read_request
from edge.sources.modbus.points import BIT_TABLES, MAX_BITS, MAX_REGISTERS, PointConfig

# So many polls without an answer, and it comes first once.
_LONGEST_WAIT: Final = 8


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What is read from a unit and within which limits."""

    unit_id: int
    points: tuple[PointConfig, ...]
    max_gap: int = 4
    max_registers: int = MAX_REGISTERS
    max_bits: int = MAX_BITS
    forbidden: tuple[Forbidden, ...] = ()

    def blocks(self) -> list[Block]:
        """The requests of a poll as long as nothing has been learned; raises ValueError for what cannot be read."""
        return plan_blocks(
            self.unit_id,
            self.points,
            max_gap=self.max_gap,
            max_registers=self.max_registers,
            max_bits=self.max_bits,
            forbidden=self.forbidden,
        )


@dataclass(eq=False, slots=True)
class Piece:
    """A block that is to be asked, and the larger one of which it is a part."""

    block: Block
    part_of: Split | None = None
    failures: int = 0  # in a row: not answered, or refused for a reason that names no address
    passed_over: int = 0  # in a row: there was no time for it
    unread: int = 0  # polls since its last answer
    answered: bool = False
    request: Request = field(init=False)
    of_bits: bool = field(init=False)

    def __post_init__(self) -> None:
        block = self.block
        self.of_bits = block.table in BIT_TABLES
        self.request = read_request(block.unit_id, block.table, block.address, block.count)

    @property
    def turn(self) -> tuple[int, int]:
        """When in a poll: what was silent comes last, it may use up the patience; what was passed over comes first.

        On a line that has never time for all, what was silent once would otherwise never again be given enough of it.
        """
        is_patient = (self.unread + 1) % _LONGEST_WAIT
        return self.failures if is_patient else -1, -self.passed_over


@dataclass(eq=False, slots=True)
class Split:
    """A block that was not answered as a whole; `suspect` if that may be the fault of its addresses or its size.

    Its parts, halves as a rule, are in order of address.
    """

    whole: Block
    suspect: bool = True
    parts: tuple[Piece, ...] = ()

    @property
    def gaps(self) -> list[Forbidden]:
        """The addresses between its parts."""
        ends = ((a.block.address + a.block.count, b.block.address) for a, b in pairwise(self.parts))
        return [Forbidden(table=self.whole.table, first=end, last=start - 1) for end, start in ends if end < start]
