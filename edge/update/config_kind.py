"""Updates of the configuration: checked, put in the file's place, reloaded, and confirmed or put back."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from contract.update_news import UpdateState
from edge.errors import EdgeError, RolledBackError, UpdateError
from edge.launcher import ROOT_VARIABLE
from edge.reload import take_in
from edge.update.kinds import CONFIRMED, TO_BE_SEEN, Outcome, proven, until_done
from edge.update.trust import check_trust

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from contract.update import Desired
    from edge.update.acceptance import Accepted
    from edge.update.config import UpdateConfig
    from edge.update.configuration import ConfigurationFile, Trial
    from edge.update.kinds import Updated
    from edge.update.ledger import Standing

logger = logging.getLogger(__name__)

# Who has set one of these starts the agent again when it ends.
_SUPERVISORS = ("INVOCATION_ID", "NOTIFY_SOCKET", ROOT_VARIABLE)


class ConfigKind:
    """The configuration in `file`. What of it cannot be reloaded is tried after a restart, where somebody does that."""

    def __init__(
        self,
        host: Updated,
        config: UpdateConfig,
        file: ConfigurationFile,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._host = host
        self._config = config
        self._file = file
        self._is_restarted = any(environment.get(name) for name in _SUPERVISORS)

    def names(self) -> Sequence[str]:
        """There is one."""
        return ("config",)

    def running(self, _name: str, standing: Standing | None) -> str | None:
        """What was confirmed last, unless the file was changed by hand since."""
        if standing is None or standing.running_sha256 is None or self._file.sha256() != standing.running_sha256:
            return None
        return standing.running

    def check(self, _desired: Desired) -> None:
        """It is small enough to be looked at as a whole."""

    async def apply(self, accepted: Accepted, content: Path, trying: Callable[[], None]) -> Outcome:
        """Tries it in this run, or in the next."""
        desired = accepted.desired
        wanted = await asyncio.to_thread(content.read_bytes)
        new = await asyncio.to_thread(self._file.check, desired, wanted, self._host.config)
        await asyncio.to_thread(check_trust, new, accepted.signer)
        if self._file.sha256() == desired.sha256 and self._file.trial() is None:
            return CONFIRMED
        _, fixed = take_in(self._host.config, new)
        if fixed and not self._is_restarted:
            raise UpdateError(
                f"it changes {', '.join(fixed)}, which needs a restart, and nobody would start this agent again"
            )
        before = self._host.condition
        trying()
        trial = await asyncio.to_thread(self._file.begin_trial, wanted, self._config.max_starts, before.failing)
        if fixed:
            logger.info("configuration %s changes %s: to be tried after a restart", desired.version, ", ".join(fixed))
            self._host.restart()
            return TO_BE_SEEN
        return await self._try(trial, before.marks)

    async def settle(self, _name: str, _standing: Standing | None) -> Outcome | None:
        """Tries the one with which this run was started, where it is not confirmed yet."""
        if (trial := self._file.trial()) is None:
            return None
        if (wanting := trial.failed) is None:
            wanting = await proven(self._host, self._config.confirm_s, 0, trial.failed_before)
            if wanting is None:
                return CONFIRMED
            logger.error("the new configuration does not work, the one of before is put back: %s", wanting)
        if self._file.sha256() != trial.sha256:
            return Outcome(UpdateState.ROLLED_BACK, wanting)
        await until_done(partial(self._file.put_back, trial, wanting))
        if self._is_restarted:
            self._host.restart()
            return TO_BE_SEEN
        return Outcome(UpdateState.ROLLED_BACK, await self._reloaded(wanting))

    async def settled(self, _name: str) -> None:
        """What was before is needed no more."""
        await asyncio.to_thread(self._file.end_trial)

    async def _try(self, trial: Trial, marks_before: int) -> Outcome:
        try:
            await self._host.reload()
            wanting = await proven(self._host, self._config.confirm_s, marks_before, trial.failed_before)
        except EdgeError as exc:
            wanting = str(exc)
        if wanting is None:
            return CONFIRMED
        await until_done(partial(self._file.put_back, trial, wanting))
        raise RolledBackError(await self._reloaded(wanting))

    async def _reloaded(self, wanting: str) -> str:
        """Takes in the one of before; gives the reason why the other was put back."""
        try:
            await self._host.reload()
        except EdgeError as exc:
            return f"{wanting}; and the one of before is not reloaded: {exc}"
        return wanting
