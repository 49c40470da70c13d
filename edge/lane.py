"""The lanes of spool and uplink: what is more urgent is sent first, and given up last."""

from __future__ import annotations

from enum import IntEnum


class Lane(IntEnum):
    """A class of readings, the most urgent first; each has a numbering and an epoch of its own in the spool."""

    ALARM = 0
    """Sent before anything else, evicted last."""
    LIVE = 1
    """What was just read."""
    BACKFILL = 2
    """Live readings that were taken while nothing could be delivered: replayed at a limited rate beside live ones."""
    IMAGE = 3
    """Frames of cameras: sent when nothing else waits, evicted first."""

    def epoch(self, base: int) -> int:
        """The lane's epoch in a spool of this base epoch: LIVE has the base itself, the others those that follow.

        A spool of the time before there were lanes had one sequence, and that one goes on as LIVE.
        """
        return base + (self - Lane.LIVE) % len(Lane)
