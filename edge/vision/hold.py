"""A state that changes only when another has been seen for long enough. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

StateT = TypeVar("StateT")


class Held(Generic[StateT]):
    """`state` follows what is seen when it has differed for so long without a break; `resting` is where it begins."""

    def __init__(self, resting: StateT, after_s: float, clear_s: float) -> None:
        self.state = resting
        self._resting = resting
        self._after_s = after_s
        self._clear_s = clear_s
        self._differs_since_s: float | None = None

    def look(self, seen: StateT, at_s: float, needed_s: float | None = None) -> StateT:
        """The state after another look; `needed_s` in place of `after_s`, for a kind that needs longer."""
        if seen == self.state:
            self._differs_since_s = None
            return self.state
        if self._differs_since_s is None:
            self._differs_since_s = at_s
        after_s = self._after_s if needed_s is None else needed_s
        if at_s - self._differs_since_s >= (self._clear_s if seen == self._resting else after_s):
            self.state = seen
            self._differs_since_s = None
        return self.state
