"""Updates of the agent itself: the next start is that of the new version, which confirms itself or is put back."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from contract import __version__
from contract.update_news import UpdateState
from edge.errors import UpdateError
from edge.update.kinds import CONFIRMED, TO_BE_SEEN, Outcome, proven, until_done
from edge.update.room import check_room

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from contract.update import Desired
    from edge.update.acceptance import Accepted
    from edge.update.config import UpdateConfig
    from edge.update.kinds import Updated
    from edge.update.ledger import Standing
    from edge.update.versions import Versions

logger = logging.getLogger(__name__)


class AgentKind:
    """`versions` is None where the launcher has not started this agent: it cannot be updated then."""

    def __init__(self, host: Updated, config: UpdateConfig, versions: Versions | None, config_file: Path) -> None:
        self._host = host
        self._config = config
        self._versions = versions
        self._config_file = config_file

    def names(self) -> Sequence[str]:
        """There is one."""
        return ("agent",)

    def running(self, _name: str, _standing: Standing | None) -> str:
        """This one."""
        return __version__ if self._versions is None else self._versions.mine

    def check(self, _desired: Desired) -> None:
        """Raises UpdateError where nobody could put it back."""
        if self._versions is None:
            raise UpdateError("this agent was not started by the launcher, which alone could put back what fails")

    async def apply(self, accepted: Accepted, content: Path, trying: Callable[[], None]) -> Outcome:
        """Unpacks it, has it check the configuration, and has it started in this one's place."""
        assert self._versions is not None  # checked
        desired, versions = accepted.desired, self._versions
        if await asyncio.to_thread(versions.is_running, desired):
            return CONFIRMED
        await check_room(self._host, versions.root, desired.unpacked_bytes)
        await versions.install(desired, content, self._config_file)
        trying()
        failing = self._host.condition.failing
        config = self._config
        await asyncio.to_thread(versions.begin_trial, desired, config.confirm_s, config.max_starts, failing)
        logger.info("agent %s is to be tried: this one ends, to be started again", desired.version)
        self._host.restart()
        return TO_BE_SEEN

    async def settle(self, _name: str, standing: Standing | None) -> Outcome | None:
        """Sees what this run is: the one on trial, the one of before, or the one that was confirmed."""
        if self._versions is None:
            return None
        if (back := self._versions.rolled_back()) is not None:
            logger.warning("agent %s was put back: %s", back[0], back[1])
            return Outcome(UpdateState.ROLLED_BACK, back[1])
        if (trial := self._versions.trial()) is None:
            was_confirmed = standing is not None and standing.wanted == self._versions.mine
            return CONFIRMED if was_confirmed else None
        if trial.get("version") != self._versions.mine:
            return Outcome(UpdateState.ROLLED_BACK, "the launcher could not start it")
        logger.info("agent %s is on trial", self._versions.mine)
        failed_before = [str(name) for name in trial.get("failed_before", ())]
        if wanting := await proven(self._host, self._versions.seconds_left(trial), 0, failed_before):
            logger.error("agent %s does not work, the one of before is put back: %s", self._versions.mine, wanting)
            await until_done(partial(self._versions.give_up, trial, wanting))
            self._host.restart()
            return TO_BE_SEEN
        before = self._versions.current
        await until_done(self._versions.confirm)
        await asyncio.to_thread(self._versions.prune, self._versions.mine, before)
        return CONFIRMED

    async def settled(self, _name: str) -> None:
        """What the launcher had to say is told; a trial that it could not begin is over."""
        if self._versions is None:
            return
        if (back := self._versions.rolled_back()) is not None:
            await asyncio.to_thread(self._versions.discard, back[0])
            self._versions.forget_rolled_back()
        trial = self._versions.trial()
        if trial is not None and trial.get("version") != self._versions.mine:
            self._versions.drop_trial()
