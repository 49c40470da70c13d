"""How old a request may be that is read only now: while its simulator stood still, it lay there unread."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from simulators.ledger import now_ms

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_BEAT_S: Final = 0.05
# Of a process that stood still: starved, stopped, or on a machine that was.
_STALL_MS: Final = 150
# A connection that waited to be accepted is read a few rounds after that.
_CATCHING_UP_MS: Final = 250


class Pulse:
    """Knows when its event loop last went round, and when it last stood still."""

    def __init__(self) -> None:
        self._beat_ms = now_ms()
        self._stall_ms = 0, 0  # from, to

    @asynccontextmanager
    async def beating(self, name: str) -> AsyncGenerator[None]:
        """It beats inside the context."""
        task = asyncio.create_task(self._beat(), name=f"{name}: pulse")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def asked_since_ms(self) -> int:
        """The earliest, UTC ms, that a request can have come in that is read now."""
        self._look()
        from_ms, to_ms = self._stall_ms
        return from_ms if self._beat_ms - to_ms < _CATCHING_UP_MS else self._beat_ms

    async def _beat(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(_BEAT_S)

    def _look(self) -> None:
        at_ms = now_ms()
        if at_ms - self._beat_ms > _STALL_MS:
            self._stall_ms = self._beat_ms, at_ms
        self._beat_ms = at_ms
