"""A voice that repeats itself only now and then, however often there is cause. No I/O."""

from __future__ import annotations

import math
from typing import Final

_EVERY_S: Final = 60.0


class Seldom:
    """Lets one in `every_s` through; `held_back` is how many it kept to itself before that one."""

    def __init__(self, every_s: float = _EVERY_S) -> None:
        self._every_s = every_s
        self._next_s = -math.inf
        self._kept = 0
        self.held_back = 0

    def speaks(self, now_s: float) -> bool:
        """Whether this one is told."""
        if now_s < self._next_s:
            self._kept += 1
            return False
        self._next_s = now_s + self._every_s
        self.held_back, self._kept = self._kept, 0
        return True
