"""What a source remembers from poll to poll: which rows it has seen, and what was wrong with whom."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from edge.reading import Reading
    from edge.sources.rest.answers import Row

logger = logging.getLogger(__name__)

# Times of a subject that are remembered, beyond twice the rows of its last answer.
_REMEMBERED: Final = 64


class Seen:
    """The rows of one subject that were handed over."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[Hashable, None] = OrderedDict()

    def new_in(self, rows: Sequence[Row]) -> list[Reading]:
        """The readings of the rows that were not seen before."""
        readings: list[Reading] = []
        for row in rows:
            if row.token is None or row.token not in self._tokens:
                readings += row.readings
            if row.token is not None:
                self._tokens[row.token] = None
                self._tokens.move_to_end(row.token)
        while len(self._tokens) > _REMEMBERED + 2 * len(rows):
            self._tokens.popitem(last=False)
        return readings


class Faults:
    """What is wrong, by what it is wrong with; each is logged when it begins or changes, and its end."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._known: dict[Hashable, str] = {}

    def tell(self, about: Hashable, label: str, fault: str) -> None:
        """Notes a fault; an empty one is none."""
        before = self._known.get(about, "")
        if fault and fault != before:
            logger.warning("%s: %s: %s", self._source, label, fault)
            self._known[about] = fault
        elif before and not fault:
            logger.info("%s: %s is answered again", self._source, label)
            del self._known[about]
