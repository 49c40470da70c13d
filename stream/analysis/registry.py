"""Which series of a shard is which slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.ingest.columns import SeriesName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# Neither can stand in a name: decode.py refuses NUL, and group, node and device hold no control characters.
_BETWEEN_PARTS: Final = "\x1f"
_BETWEEN_NAMES: Final = "\0"
NO_SLOT: Final = -1


class Registry:
    """Names and datatypes of a shard's series, a slot each, in the order in which they were first heard.

    Names stay in Arrow: of ten thousand series a batch names a few, and a dictionary of all would be made each time.
    """

    FORMAT: ClassVar[int] = 1

    def __init__(self, arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        kept = arrays or {}
        self._names = _unpacked(kept.get("names"))
        self._node_names = _unpacked(kept.get("node_names"))
        self._node_of_slot = np.asarray(kept.get("node_of_slot", ()), np.int32)
        self._datatypes = np.asarray(kept.get("datatypes", ()), np.int16)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its whole state."""
        return {
            "names": _packed(self._names),
            "node_names": _packed(self._node_names),
            "node_of_slot": self._node_of_slot,
            "datatypes": self._datatypes,
        }

    def __len__(self) -> int:
        return len(self._names)

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self._node_names)

    @property
    def node_of_slot(self) -> NDArray[np.int32]:
        """The number of each series' node, int32 [slots]."""
        return self._node_of_slot

    @property
    def datatypes(self) -> NDArray[np.int16]:
        """As last told, int16 [slots]."""
        return self._datatypes

    def names(self, slots: NDArray[np.int32]) -> list[SeriesName]:
        """Whose these slots are."""
        parts = len(SeriesName._fields) - 1
        return [SeriesName(*joined.split(_BETWEEN_PARTS, parts)) for joined in self._names.take(slots).to_pylist()]

    def find(self, names: Sequence[SeriesName]) -> NDArray[np.int32]:
        """Their slots; NO_SLOT where there is none."""
        return _find(_joined(names), self._names)

    def take(self, names: Sequence[SeriesName], datatypes: NDArray[np.int16], limit: int) -> NDArray[np.int32]:
        """Slots of different series, new ones for those that are new as long as there are fewer than `limit`."""
        slots = self.find(names)
        new = np.flatnonzero(slots == NO_SLOT)[: max(limit - len(self), 0)]
        if len(new):
            slots[new] = np.arange(len(self), len(self) + len(new), dtype=np.int32)
            chosen = [names[place] for place in new]
            self._names = pa.concat_arrays([self._names, _joined(chosen)])
            self._node_of_slot = np.append(self._node_of_slot, self._nodes_of(chosen))
            self._datatypes = np.append(self._datatypes, datatypes[new])
        known = slots != NO_SLOT
        self._datatypes[slots[known]] = datatypes[known]
        return slots

    def _nodes_of(self, names: Sequence[SeriesName]) -> NDArray[np.int32]:
        joined = _joined([name[:2] for name in names])
        wanted = joined.unique()
        new = wanted.filter(pc.equal(_find(wanted, self._node_names), NO_SLOT))
        self._node_names = pa.concat_arrays([self._node_names, new])
        return _find(joined, self._node_names)


def _joined(names: Sequence[tuple[str, ...]]) -> pa.Array:
    return pa.array([_BETWEEN_PARTS.join(name) for name in names], pa.string())


def _find(wanted: pa.Array, among: pa.Array) -> NDArray[np.int32]:
    found = pc.fill_null(pc.index_in(wanted, value_set=among), NO_SLOT)
    return np.array(found.to_numpy(zero_copy_only=False), np.int32)


def _packed(names: pa.Array) -> NDArray[np.uint8]:
    return np.frombuffer(_BETWEEN_NAMES.join(names.to_pylist()).encode(), np.uint8)


def _unpacked(names: NDArray[Any] | None) -> pa.Array:
    text = b"" if names is None else names.tobytes()
    return pa.array(text.decode().split(_BETWEEN_NAMES) if text else [], pa.string())
