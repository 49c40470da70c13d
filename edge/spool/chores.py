"""What the spool's thread does beside its commits: salvage what was set aside, and date what was kept undated."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from edge.errors import SpoolError
from edge.spool.directory import finish, prune, wrecks
from edge.spool.salvage import Salvage
from edge.spool.wreck import Wreck

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edge.sources.base import Clock
    from edge.spool.file import Declare, SpoolFile

logger = logging.getLogger(__name__)

# Collecting goes first: between two steps there is time for commits.
_PAUSE_S: Final = 0.02
_CLOCK_CHECK_S: Final = 0.5
# A disk that spoils every file within seconds must not fill up with them.
_MOST_WRECKS: Final = 4


class Chores:
    """The chores of one spool. Used by its thread alone."""

    def __init__(
        self, directory: Path, now_ms: Clock, booted_ms: Callable[[], int | None], declare: Declare, keep_bytes: int
    ) -> None:
        self._directory = directory
        self._now_ms = now_ms
        self._booted_ms = booted_ms
        self._declare = declare
        self._keep_bytes = keep_bytes
        self._salvage: tuple[Salvage, Wreck] | None = None

    def begin(self, file: SpoolFile, since: Mapping[str, int] | None, devices: tuple[str, ...]) -> None:
        """Notes in a file what is to be salvaged, and from when on readings may be missing; raises SpoolError.

        What is not known (`since`) is as old as the file that was set aside.
        """
        self.close()
        known = file.salvages()
        for name, epoch in wrecks(self._directory):
            if name not in known:
                of_file = since if since is not None else dict.fromkeys((*devices, *file.last_sampled()), epoch)
                file.note_salvage(Salvage(name, dict(of_file), self._now_ms()))
        for name, _ in wrecks(self._directory)[:-_MOST_WRECKS]:
            file.note_salvage(file.salvages()[name].given_up())

    def run(self, file: SpoolFile) -> tuple[bool, float]:
        """Does a little; returns whether batches came into lanes, and after how many seconds there is more to do.

        Raises SpoolError.
        """
        booted_ms = self._booted_ms()
        if file.undated and booted_ms is not None:
            return bool(file.date_some(booted_ms, self._now_ms(), self._declare)), _PAUSE_S
        if self._step(file, booted_ms):
            return True, _PAUSE_S
        return False, _CLOCK_CHECK_S if file.undated else math.inf

    def _step(self, file: SpoolFile, booted_ms: int | None) -> bool:
        if self._salvage is None:
            salvage = next(iter(file.salvages().values()), None)
            if salvage is None:
                return False
            logger.info("salvaging what can be read of %s", salvage.name)
            self._salvage = salvage, Wreck(self._directory / salvage.name)
        salvage, wreck = self._salvage
        if salvage.is_done:
            self._finish(file, salvage)
            return True
        haul = salvage.step(wreck)
        try:
            file.take_over(haul, salvage, self._now_ms(), self._declare, booted_ms=booted_ms)
        except SpoolError:
            # Read again later, from where the file knows that it has come.
            self.close()
            raise
        return True

    def _finish(self, file: SpoolFile, salvage: Salvage) -> None:
        self.close()
        logger.warning("of %s %d batches were salvaged, %d are lost", salvage.name, salvage.salvaged, salvage.lost)
        finish(self._directory / salvage.name, complete=not salvage.lost)
        file.forget_salvage(salvage.name)
        prune(self._directory, self._keep_bytes)

    def close(self) -> None:
        """Lets go of the file that is being salvaged."""
        if self._salvage is not None:
            self._salvage[1].close()
        self._salvage = None
