"""Sees to it that everything goes on: each source's poller, the spool's thread, and with them the event loop.

A poller that is far beyond the time-out of what it does is cut off, which its source hears as a cancellation, and
starts again. What still does not go on is `stuck`: systemd is then told nothing more, and starts the agent anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from edge.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from edge.health.notify import Notifier
    from edge.polling import Poller

logger = logging.getLogger(__name__)

_PERIOD_S: Final = 1.0
# systemd advises to speak at half its time; a third leaves room for a late one.
_PER_WATCHDOG_TIME: Final = 3
# Whoever wakes so late has itself not run: everybody's time-outs have passed, and nobody is to blame.
_OVERSLEPT_S: Final = 1.0


class Watchdog:
    """Looks every second or more often; `ask_spool` returns when the spool's thread has answered.

    `summary` gives the line for `systemctl status`.
    """

    def __init__(
        self,
        pollers: Callable[[], Mapping[str, Poller]],
        ask_spool: Callable[[], Awaitable[object]],
        summary: Callable[[], str],
        notifier: Notifier,
        stuck_after_s: float,
    ) -> None:
        self.stuck: tuple[str, ...] = ()
        self._pollers = pollers
        self._ask_spool = ask_spool
        self._summary = summary
        self._notifier = notifier
        self._stuck_after_s = stuck_after_s
        self._period_s = min(_PERIOD_S, stuck_after_s, (notifier.watchdog_s or _PERIOD_S) / _PER_WATCHDOG_TIME)
        self._spool_answered_s = time.monotonic()

    async def run(self) -> None:
        """Looks until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen_to_spool(), name="watchdog of the spool")
            while True:
                asleep_s = time.monotonic()
                await asyncio.sleep(self._period_s)
                if time.monotonic() - asleep_s - self._period_s < _OVERSLEPT_S:
                    self._look()
                if not self.stuck:
                    self._notifier.alive()
                self._notifier.status(self._summary())

    def _look(self) -> None:
        stuck = []
        if time.monotonic() - self._spool_answered_s > 2 * self._stuck_after_s:
            stuck.append("spool")
        for name, poller in self._pollers().items():
            if poller.overdue_s > self._stuck_after_s and poller.cut():
                logger.warning(
                    "%s hangs beyond its time-out: cut off, to be opened again", name, extra={"source": name}
                )
            if poller.overdue_s > 2 * self._stuck_after_s:
                stuck.append(f"source {name}")
        self._tell_change(tuple(stuck))

    def _tell_change(self, stuck: tuple[str, ...]) -> None:
        for name in stuck:
            if name not in self.stuck:
                logger.critical("%s does not go on, whatever is tried: the agent has to be started again", name)
        for name in self.stuck:
            if name not in stuck:
                logger.info("%s goes on again", name)
        self.stuck = stuck

    async def _listen_to_spool(self) -> None:
        while True:
            with contextlib.suppress(SpoolError):  # it has answered, and tells its faults by itself
                await self._ask_spool()
            self._spool_answered_s = time.monotonic()
            await asyncio.sleep(self._period_s)
