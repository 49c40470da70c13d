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
    from collections.abc import Callable, Mapping, Sequence
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
        self.evicted_batches = 0
        self._directory = directory
        self._now_ms = now_ms
        self._booted_ms = booted_ms
        self._declare = declare
        self._keep_bytes = keep_bytes
        self._is_new = False
        self._since: Mapping[str, int] | None = None
        self._devices: Sequence[str] = ()
        self._salvage: tuple[Salvage, Wreck] | None = None

    def begin(self, since: Mapping[str, int] | None, devices: Sequence[str]) -> None:
        """There is another file, and perhaps one that was set aside.

        From when on (ms) readings of each device may be missing with that; None: since it was made.
        """
        self.close()
        self._is_new, self._since, self._devices = True, since, devices

    def _look_around(self, file: SpoolFile) -> None:
        """Takes note of what is to be salvaged."""
        known = file.salvages()
        for name, epoch in wrecks(self._directory):
            if name not in known:
                since = self._since
                if since is None:
                    since = dict.fromkeys((*self._devices, *file.last_sampled()), epoch)
                known[name] = Salvage(name, dict(since), self._now_ms())
                file.note_salvage(known[name])
        for name in sorted(known)[:-_MOST_WRECKS]:
            file.note_salvage(known[name].given_up())

    def run(self, file: SpoolFile) -> tuple[bool, float]:
        """Does a little; returns whether batches came into lanes, and after how many seconds there is more to do.

        Raises SpoolError.
        """
        if self._is_new:
            self._look_around(file)
            self._is_new = False
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
            evicted = file.take_over(haul, salvage, self._now_ms(), self._declare, booted_ms=booted_ms)
        except SpoolError:
            # Read again later, from where the file knows that it has come.
            self.close()
            raise
        self.evicted_batches += evicted
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
