"""Whether what is read now can be delivered now; where it cannot, the spool keeps it for replay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Reach:
    """Calls `divert(True)` when nothing could be delivered for `grace_s`, and `divert(False)` when something can.

    The grace keeps a short break from cutting the live readings in two; what it lets pass is seconds of them.
    """

    def __init__(self, divert: Callable[[bool], None], grace_s: float) -> None:
        self.is_away = False
        self._divert = divert
        self._grace_s = grace_s
        self._timer: asyncio.TimerHandle | None = None

    def lost(self, *, at_once: bool = False) -> None:
        """Nothing can be delivered from now on; `at_once`: and could not for some time already."""
        if at_once:
            self._set(is_away=True)
        elif self._timer is None and not self.is_away:
            self._timer = asyncio.get_running_loop().call_later(self._grace_s, self._expired)

    def gained(self) -> None:
        """What is read can be delivered."""
        self._set(is_away=False)

    def close(self) -> None:
        """Ends: nothing is diverted any more."""
        self._cancel()

    def _expired(self) -> None:
        self._set(is_away=True)

    def _set(self, *, is_away: bool) -> None:
        self._cancel()
        if is_away != self.is_away:
            self.is_away = is_away
            self._divert(is_away)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
