"""What a full spool gives up: the oldest batches of the least urgent lane, and what is then declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract.delivery import Gap
from edge.lane import Lane
from edge.spool.dating import is_since_boot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge.spool.sequence import BatchTable

# At least so much of a lane goes at once, so that gaps are few.
_EVICTED_SHARE: Final = 20

Gaps = dict[tuple[str, str], Gap]
"""Of each device, and for each reason."""


def evict(
    tables: Sequence[BatchTable], fits: Callable[[], bool], first_new: Mapping[str, int]
) -> tuple[int, list[tuple[str, Gaps]]]:
    """Evicts from the last of the tables that holds anything until all fits; never all that was just added.

    Returns how many batches, and for each table what is lost with them.
    """
    evicted = 0
    lost = {table.name: Gaps() for table in tables}
    while not fits():
        held = [table for table in tables if table.depth]
        if not held:
            break
        table = held[-1]
        end = first_new[table.name] if len(held) == 1 else table.next_no
        if table.oldest_no >= end:
            break
        through = table.oldest_no + max(1, (end - table.oldest_no) // _EVICTED_SHARE) - 1
        reason = "spool full: images" if table.lane is Lane.IMAGE else "spool full"
        for device, (from_ms, to_ms) in table.spans_through(through).items():
            widen(lost[table.name], device, Gap(from_ms, to_ms, reason))
        evicted += table.delete_through(through)
    return evicted, [entry for entry in lost.items() if entry[1]]


def widen(gaps: Gaps, device: str, gap: Gap) -> None:
    """Makes a device's gap reach over another one of the same reason too."""
    known = gaps.get((device, gap.reason), gap)
    from_ms = min(known.from_ms, gap.from_ms, key=_age)
    gaps[device, gap.reason] = Gap(from_ms, max(known.to_ms, gap.to_ms, key=_age), gap.reason)


def _age(at_ms: int) -> tuple[bool, int]:
    # As long as there are times since boot, every UTC that is known is of an earlier boot.
    return is_since_boot(at_ms), at_ms
