"""The parts of a shard's state: unpacked when they are asked for, packed when they have changed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

from stream.analysis.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Arrays: TypeAlias = dict[str, NDArray[Any]]


logger = logging.getLogger(__name__)


class Kept:
    """What a shard knew before, and what of it has changed; `number` is that of a part's layout."""

    def __init__(self, state: Mapping[str, bytes]) -> None:
        self._state = state
        self._before: dict[str, bytes] = {}
        self.changed: dict[str, bytes] = {}

    def arrays(self, name: str, number: int, made_by: str = "") -> Arrays | None:
        """The arrays of a part, None where it is new or other settings made it.

        Raises FatalError for those of another layout.
        """
        if name not in self._state:
            return None
        self._before[name] = self._state[name]
        found = unpack(self._before[name], name, number, made_by)
        if found is None:
            logger.warning("%s are learnt anew: their settings have changed", name)
        return found

    def keep(self, name: str, arrays: Arrays, number: int, made_by: str = "") -> None:
        """Take what a part is now."""
        packed = pack(arrays, number, made_by)
        if packed != self._before.get(name):
            self.changed[name] = packed
