"""Whether a score is an alarm: above a threshold it is, and stays one until it is below another. Pure."""

from __future__ import annotations


class Hysteresis:
    """`is_on` above `threshold`, off again below `clear`."""

    def __init__(self, threshold: float, clear: float, *, is_on: bool = False) -> None:
        self.is_on = is_on
        self._threshold = threshold
        self._clear = clear

    def look(self, score: float) -> bool:
        """The state after another score."""
        self.is_on = score > self._threshold or (self.is_on and score >= self._clear)
        return self.is_on
