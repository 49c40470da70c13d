"""Whose turn it is on a line: one at a time, a write before every read that still waits."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """A lock with a fast lane."""

    def __init__(self) -> None:
        self._taken = False
        self._first: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> bool:
        """Whether somebody has the turn."""
        return self._taken

    async def take(self, *, first: bool = False) -> None:
        """Waits for the turn; whoever has it must `give` it back."""
        if not self._taken:
            self._taken = True
            return
        waiting = asyncio.get_running_loop().create_future()
        (self._first if first else self._others).append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self.give()
            raise

    def give(self) -> None:
        """Hands the turn to whoever waits."""
        for queue in (self._first, self._others):
            while queue:
                waiting = queue.popleft()
                if not waiting.done():
                    waiting.set_result(None)
                    return
        self._taken = False
