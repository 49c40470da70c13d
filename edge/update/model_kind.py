"""Updates of models: tried in a process of their own before the directory's link goes to them, and served then."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from contract.update_news import UpdateState
from edge.errors import ModelError, NotNowError, RolledBackError, UpdateError
from edge.update.kinds import CONFIRMED, Outcome, until_done
from edge.update.model_link import ModelLink
from edge.update.room import check_room

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from contract.update import Desired
    from edge.update.acceptance import Accepted
    from edge.update.config import UpdateConfig
    from edge.update.kinds import Updated
    from edge.update.ledger import Standing
    from edge.update.model_link import ModelTrial

_LOOK_S: Final = 0.1


class ModelKind:
    """The models of the configuration; versions that came as updates lie in `directory`."""

    def __init__(self, host: Updated, config: UpdateConfig, directory: Path) -> None:
        self._host = host
        self._config = config
        self._directory = directory

    def names(self) -> Sequence[str]:
        """Those of the configuration."""
        return [model.name for model in self._host.config.models]

    def running(self, name: str, _standing: Standing | None) -> str | None:
        """What is served."""
        served = self._host.models.served.get(name)
        current = None if served is None else served.current
        return None if current is None else current.package.manifest.version

    def check(self, desired: Desired) -> None:
        """Raises UpdateError for a model that this node has not."""
        if desired.name not in self.names():
            raise UpdateError(f"there is no model {desired.name} in this node's configuration")
        self._link(desired.name).check()

    async def apply(self, accepted: Accepted, content: Path, trying: Callable[[], None]) -> Outcome:
        """Tries it, and has it served."""
        desired, link = accepted.desired, self._link(accepted.desired.name)
        if not link.has(desired):
            await check_room(self._host, self._directory, desired.unpacked_bytes)
        place = await asyncio.to_thread(link.install, desired, content)
        try:
            package = await self._host.models.try_out(desired.name, place)
        except ModelError as exc:
            fault = NotNowError if _passes(exc.__cause__) else UpdateError
            raise fault(f"it fails its trial: {exc}") from exc
        if package.manifest.version != desired.version:
            raise UpdateError(f"its archive is of version {package.manifest.version}")
        trying()
        trial = await asyncio.to_thread(link.begin_trial, place, package.digest)
        try:
            await asyncio.to_thread(link.go_on, trial)
        except UpdateError:
            await until_done(partial(link.put_back, trial))
            raise
        if (wanting := await self._served(desired.name, trial)) is not None:
            raise RolledBackError(wanting)
        return CONFIRMED

    async def settle(self, name: str, _standing: Standing | None) -> Outcome | None:
        """Sees whether the one that was on trial is served."""
        link = self._link(name)
        if (trial := await asyncio.to_thread(link.trial)) is None:
            return None
        try:
            await asyncio.to_thread(link.go_on, trial)
        except UpdateError as exc:
            await until_done(partial(link.put_back, trial))
            state = UpdateState.WAITING if isinstance(exc, NotNowError) else UpdateState.ROLLED_BACK
            return Outcome(state, str(exc))
        wanting = await self._served(name, trial)
        return CONFIRMED if wanting is None else Outcome(UpdateState.ROLLED_BACK, wanting)

    async def settled(self, name: str) -> None:
        """Versions of before go."""
        link = self._link(name)
        if await asyncio.to_thread(link.trial) is not None:
            await asyncio.to_thread(link.end_trial)

    def _link(self, name: str) -> ModelLink:
        model = next((model for model in self._host.config.models if model.name == name), None)
        if model is None:
            raise UpdateError(f"there is no model {name} in this node's configuration any more")
        return ModelLink(model.directory, self._directory / name)

    async def _served(self, name: str, trial: ModelTrial) -> str | None:
        """Waits until it is served; else puts back what was before, and gives the reason."""
        models, deadline_s = self._host.models, time.monotonic() + self._config.confirm_s
        wanting = None
        while wanting is None:
            models.look_soon()
            await asyncio.sleep(_LOOK_S)
            served = models.served.get(name)
            if served is None:
                wanting = "the configuration has this model no more"
            elif served.current is not None and served.current.package.digest == trial.digest:
                return None
            elif trial.digest in served.quarantined:
                wanting = served.quarantined[trial.digest]
            elif time.monotonic() >= deadline_s:
                wanting = served.status.refused or f"it is not served within {self._config.confirm_s:g} s"
        await until_done(partial(self._link(name).put_back, trial))
        models.look_soon()
        return wanting


def _passes(fault: BaseException | None) -> bool:
    """Whether a trial has failed by what the machine could not do then; a file that is not there is the model's."""
    of_the_model = FileNotFoundError | NotADirectoryError | IsADirectoryError
    return isinstance(fault, OSError) and not isinstance(fault, of_the_model)
