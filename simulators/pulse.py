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


class Pulse:
    """Knows when its event loop last went round."""

    def __init__(self) -> None:
        self._beat_ms = now_ms()

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
        at_ms = now_ms()
        return self._beat_ms if at_ms - self._beat_ms > _STALL_MS else at_ms

    async def _beat(self) -> None:
        while True:
            self._beat_ms = now_ms()
            await asyncio.sleep(_BEAT_S)
