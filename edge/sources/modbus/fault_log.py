"""What is told of faults: each once when it begins, once when it ends, and little of one that comes and goes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

# What has not changed for so long is steady.
STEADY_S: Final = 60.0
# Changes, each so soon after the last, after which a place is restless: began, ended, began again.
_RESTLESS: Final = 3


@dataclass(slots=True)
class _Place:
    """What is known of a place on the line; `fault` and `told` are None while it reads."""

    fault: str | None = None
    told: str | None = None
    since: float = float("-inf")
    changes: int = 0


class FaultLog:
    """Tells of the places of one source that cannot be read; times are seconds of a monotonic clock."""

    def __init__(self, source: str, line: str) -> None:
        self._source, self._line = source, line
        self._places: dict[str, _Place] = {}

    def tell(self, faults: Mapping[str, str], now: float) -> None:
        """Takes in the faults of a poll by place, and tells what is new."""
        if not faults and not self._places:
            return
        for name in [*self._places, *(name for name in faults if name not in self._places)]:
            place = self._places.setdefault(name, _Place())
            self._look_at(name, place, faults.get(name), now)
            if place.fault is None and place.told is None and now - place.since >= STEADY_S:
                del self._places[name]

    def _look_at(self, name: str, place: _Place, fault: str | None, now: float) -> None:
        if fault != place.fault:
            place.changes = place.changes + 1 if now - place.since < STEADY_S else 1
            place.fault, place.since = fault, now
            if place.changes <= _RESTLESS:
                restless = " (it comes and goes: told again once it is steady)" if place.changes == _RESTLESS else ""
                self._say(name, place, restless)
        elif fault != place.told and now - place.since >= STEADY_S:
            self._say(name, place)

    def _say(self, name: str, place: _Place, more: str = "") -> None:
        place.told = place.fault
        extra = {"source": self._source}
        if place.fault is None:
            logger.info("%s: %s %s reads again%s", self._source, self._line, name, more, extra=extra)
        else:
            logger.warning("%s: %s %s: %s%s", self._source, self._line, name, place.fault, more, extra=extra)
