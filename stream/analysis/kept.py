"""The parts of a shard's state: unpacked when they are asked for, packed when they have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from stream.analysis.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class Part(Protocol):
    """What keeps arrays in the state; FORMAT is the number of their layout."""

    FORMAT: ClassVar[int]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its whole state."""


class Kept:
    """What a shard knew before, and what of it has changed."""

    def __init__(self, state: Mapping[str, bytes]) -> None:
        self._state = state
        self._before: dict[str, bytes] = {}
        self.changed: dict[str, bytes] = {}

    def arrays(self, name: str, number: int) -> dict[str, NDArray[Any]] | None:
        """The arrays of a part, None where it is new; raises FatalError for those of another format."""
        if name not in self._state:
            return None
        self._before[name] = self._state[name]
        return unpack(self._before[name], name, number)

    def keep(self, name: str, part: Part) -> None:
        """Take what a part is now."""
        packed = pack(part.arrays(), part.FORMAT)
        if packed != self._before.get(name):
            self.changed[name] = packed
