"""What the spool's thread lets others see of the file, without their having to ask it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.lane import Lane
from edge.spool.sequence import Extent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge.spool.sequence import StoredBatch


@dataclass(frozen=True, slots=True)
class Held:
    """What each lane holds on the disk, the most urgent first, and `newest`: what was committed last, in memory too."""

    extents: Mapping[Lane, Extent]
    newest: Mapping[Lane, Sequence[StoredBatch]]

    def read_from(self, lane: Lane, batch_no: int, limit: int) -> list[StoredBatch]:
        """Up to `limit` batches from a number on, as far as they are in memory; none where the first is not."""
        newest = self.newest.get(lane, ())
        if not newest or not newest[0].batch_no <= batch_no <= newest[-1].batch_no:
            return []
        first = batch_no - newest[0].batch_no
        return list(newest[first : first + limit])


NOTHING = Held({lane: Extent(0, 1, 1, 0, None) for lane in Lane}, {})
"""What is known before the file is open."""
