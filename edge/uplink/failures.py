"""Connections that fail: how many in a row, and what of it is told."""

from __future__ import annotations

import logging
import math
import re
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edge.errors import EdgeError

logger = logging.getLogger(__name__)

# A connection that is lost sooner than this counts as one more failure: two nodes of one name throw each other out.
_STEADY_S: Final = 10.0
# Each reason is told once, whatever numbers (a time, a port) are in it; and no more than so many.
_NUMBERS: Final = re.compile(r"\d+")
_MOST_REASONS: Final = 10


class Failures:
    """Counts them until a connection holds; the log has the first, and each other reason once."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self._reasons: set[str] = set()
        self._connected_at_s = math.inf

    def connected(self) -> None:
        """A connection stands; whether it holds will be seen."""
        self._connected_at_s = time.monotonic()

    def failed(self, fault: EdgeError) -> None:
        """A connection was lost, or not made."""
        if time.monotonic() - self._connected_at_s > _STEADY_S:
            self.in_a_row = 0
            self._reasons.clear()
        self._connected_at_s = math.inf
        reason = _NUMBERS.sub("", str(fault))
        if self.in_a_row == 0:
            logger.warning("%s; readings are spooled, and the connection tried again until it stands", fault)
        elif reason not in self._reasons and len(self._reasons) < _MOST_REASONS:
            logger.warning("now: %s", fault)
        self._reasons.add(reason)
        self.in_a_row += 1
