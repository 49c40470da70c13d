"""A new configuration while the agent runs: when its file is read, and what of it can be taken in."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from edge.config import AgentConfig
from edge.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from edge.health.notify import Notifier

logger = logging.getLogger(__name__)

# The rest is built in once: the identity, the spool, the connection, the page.
_TAKEN_IN: Final = frozenset({"sources", "models", "health_interval_s", "drain_timeout_s"})
# A file on a share that is away can take for ever, and a stop waits for a reload.
_READ_S: Final = 10.0


def take_in(old: AgentConfig, new: AgentConfig) -> tuple[AgentConfig, list[str]]:
    """The new configuration as far as it can be taken in, and the keys that keep their old value until a restart."""
    fixed = [
        name for name in AgentConfig.model_fields if name not in _TAKEN_IN and getattr(old, name) != getattr(new, name)
    ]
    return new.model_copy(update={name: getattr(old, name) for name in fixed}), fixed


class Reloading:
    """One reload at a time, by `take_in`, none once the agent is `stopping`; `lock` is held meanwhile.

    `reread` gives the configuration as it now stands in its file; without it there is no reload.
    """

    def __init__(
        self,
        reread: Callable[[], AgentConfig] | None,
        take_in: Callable[[AgentConfig], Awaitable[str | None]],
        notifier: Notifier,
        stopping: asyncio.Event,
    ) -> None:
        self.done = 0
        self.lock = asyncio.Lock()
        self._reread = reread
        self._take_in = take_in
        self._notifier = notifier
        self._stopping = stopping
        self._task: asyncio.Task[None] | None = None
        self._is_wanted = False

    def soon(self) -> None:
        """Asks for a reload; what is wrong is logged."""
        self._is_wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="reload")

    async def now(self) -> str | None:
        """Reads and takes in; says what has to wait for a restart. Raises EdgeError where nothing is changed."""
        async with self.lock:
            if self._reread is None or self._stopping.is_set():
                raise EdgeError("the agent is stopping" if self._reread else "this agent has no configuration file")
            self._notifier.reloading()
            try:
                async with asyncio.timeout(_READ_S):
                    new = await asyncio.to_thread(self._reread)
                left = await self._take_in(new)
            except ConfigError as exc:
                raise EdgeError(f"the configuration is refused, the old one goes on: {exc}") from exc
            except TimeoutError:
                raise EdgeError(f"the configuration is not read within {_READ_S:g} s, the old one goes on") from None
            finally:
                self._notifier.ready()
            self.done += 1
            return left

    async def _work(self) -> None:
        """Asked for once more while it is at it, perhaps after the file was read, it reads the file once more."""
        while self._is_wanted:
            self._is_wanted = False
            try:
                await self.now()
            except EdgeError as exc:
                logger.error("%s", exc)  # noqa: TRY400 - an operator has no use for the traceback
            except Exception:
                logger.exception("unexpected, please report; going on")
