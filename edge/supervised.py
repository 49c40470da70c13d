"""The parts of the agent at work, and the one place that catches everything: whatever fails in one, all go on."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

_RESTART_S: Final = 1.0


class Part(Protocol):
    """What the agent is made of."""

    async def run(self) -> None:
        """Works until it is cancelled, or done."""


class Parts:
    """The agent's parts at work, each under its name and supervised, in `group` until they are ended."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, part: Part | None) -> None:
        """Sets one to work, if there is one."""
        if part is not None:
            self._tasks[name] = self._group.create_task(supervised(part.run), name=name)

    async def have_ended(self, name: str, within_s: float) -> bool:
        """Waits until one has ended by itself; False when it has not in so many seconds."""
        await asyncio.wait([self._tasks[name]], timeout=within_s)
        return self._tasks[name].done()

    async def end(self, *names: str) -> None:
        """Cancels those of these that were started, and waits until they have ended."""
        if tasks := [self._tasks[name] for name in names if name in self._tasks]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def supervised(work: Callable[[], Awaitable[None]]) -> None:
    """Runs a part of the agent, again if it fails in a way that nobody foresaw."""
    while True:
        try:
            return await work()
        except Exception:
            logger.exception("unexpected, please report; going on")
            await asyncio.sleep(_RESTART_S)
