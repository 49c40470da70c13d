"""How many replayed batches may be on the line at once, so that a live one does not queue behind them. No I/O."""

from __future__ import annotations

import math
from typing import Final

# An answer that takes longer than twice the quickest one, and so much more, says that something queues.
_SLACK_S: Final = 0.1
MOST: Final = 64


class Pace:
    """Of one connection: grows with every quick answer, halves with a slow one; a slow line carries one at a time."""

    def __init__(self) -> None:
        self._limit = 1
        self._on_line = 0
        self._quickest_s = math.inf
        self._slowed_at_s = -math.inf

    @property
    def room(self) -> int:
        """How many more may be sent now."""
        return self._limit - self._on_line

    def sent(self) -> None:
        """A replayed batch has gone out."""
        self._on_line += 1

    def answered(self, sent_at_s: float, now_s: float) -> None:
        """The broker has it."""
        self._on_line = max(0, self._on_line - 1)
        took_s = now_s - sent_at_s
        self._quickest_s = min(self._quickest_s, took_s)
        if took_s <= 2 * self._quickest_s + _SLACK_S:
            self._limit = min(MOST, self._limit + 1)
        elif sent_at_s >= self._slowed_at_s:
            # Those that were on the line already when it was slowed tell nothing new.
            self._limit = max(1, self._limit // 2)
            self._slowed_at_s = now_s
