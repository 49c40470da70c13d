"""The one place that catches everything: collecting goes on, whatever fails in a part of the agent."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

_RESTART_S: Final = 1.0


async def supervised(work: Callable[[], Awaitable[None]]) -> None:
    """Runs a part of the agent, again if it fails in a way that nobody foresaw."""
    while True:
        try:
            return await work()
        except Exception:
            logger.exception("unexpected, please report; going on")
            await asyncio.sleep(_RESTART_S)
