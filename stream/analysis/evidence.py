"""The readings that made an incident: the first, the worst and the last ones of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Floats, Slots, Times
    from stream.analysis.scores import Scores

_FIRST: Final = 6
_WORST: Final = 8
_LAST: Final = 6
PLACES: Final = _FIRST + _WORST + _LAST
_EMPTY: Final = np.iinfo(np.int64).max
_COLUMNS: Final = ("at_ms", "value", "expected", "score")


class Evidence:
    """Up to PLACES readings of each series that is in an incident; of others nothing.

    The first ones have places of their own. Those after them go round through the last places; what has to make room
    there stays among the worst if it is worse than one of them.
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        kept = arrays or {}
        none, wide = np.empty(0), np.empty((0, PLACES))
        self._slot = np.array(kept.get("evidence_slot", none), np.int32)
        self._count = np.array(kept.get("evidence_count", none), np.int32)
        self._columns = {name: np.array(kept.get(f"evidence_{name}", wide), _dtype(name)) for name in _COLUMNS}
        self._place = np.empty(0, np.int32)
        self._index()

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state, in order of slot."""
        columns = {f"evidence_{name}": column for name, column in self._columns.items()}
        return {"evidence_slot": self._slot, "evidence_count": self._count, **columns}

    def begin(self, slot: Slots) -> None:
        """Nothing is known of what begins for these series, whatever was before."""
        if not len(slot):
            return
        self._select(~np.isin(self._slot, slot))
        self._slot = np.append(self._slot, slot)
        self._count = np.append(self._count, np.zeros(len(slot), np.int32))
        for name, column in self._columns.items():
            new = np.full((len(slot), PLACES), _EMPTY if name == "at_ms" else np.nan, column.dtype)
            self._columns[name] = np.concatenate([column, new])
        self._index()

    def add(self, readings: Scores) -> None:
        """Readings of series for which something has begun; a slot stands there once."""
        row = self._place[readings.slot]
        count = self._count[row]
        past_first = count - _FIRST
        place = np.where(past_first < 0, count, _FIRST + _WORST + past_first % _LAST)
        is_full = past_first >= _LAST
        self._spare(row[is_full], place[is_full], past_first[is_full] - _LAST)
        for name, column in self._columns.items():
            column[row, place] = getattr(readings, name)
        self._count[row] += 1

    def _spare(self, row: NDArray[np.int32], place: NDArray[np.int32], spared: NDArray[np.int32]) -> None:
        """Keep what stands in `place` among the worst, where there is room or it is worse; `spared` came before it."""
        scores = self._columns["score"]
        best = scores[row, _FIRST : _FIRST + _WORST].argmin(axis=1)
        to = _FIRST + np.where(spared < _WORST, spared, best)
        is_kept = (spared < _WORST) | (scores[row, place] > scores[row, to])
        for column in self._columns.values():
            column[row[is_kept], to[is_kept]] = column[row[is_kept], place[is_kept]]

    def of(self, slot: Slots) -> tuple[NDArray[np.int32], Times, Floats, Floats, Floats]:
        """How many [n], and their times, values, expected values and scores [n, PLACES], in order of time."""
        row = self._place[slot]
        order = np.argsort(self._columns["at_ms"][row], axis=1, kind="stable")
        at_ms, value, expected, score = (np.take_along_axis(self._columns[name][row], order, 1) for name in _COLUMNS)
        return np.minimum(self._count[row], PLACES), at_ms, value, expected, score

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        """Forget all others, bool [slots]."""
        self._select(wanted[self._slot])
        order = np.argsort(self._slot)
        if np.any(order[1:] < order[:-1]):
            self._select(order)
        self._index()

    def _select(self, chosen: NDArray[np.generic]) -> None:
        self._slot, self._count = self._slot[chosen], self._count[chosen]
        self._columns = {name: column[chosen] for name, column in self._columns.items()}

    def _index(self) -> None:
        size = int(self._slot.max(initial=-1)) + 1
        self._place = np.full(size, -1, np.int32)
        self._place[self._slot] = np.arange(len(self._slot), dtype=np.int32)


def _dtype(name: str) -> type[np.generic]:
    return np.int64 if name == "at_ms" else np.float64
