"""Series advanced together: the first new step of each at once, then the second of each, and so on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Slots


def rounds(slot: Slots) -> Iterator[NDArray[np.intp]]:
    """The places of each slot's first row, then of its second, and so on; `slot` [n] is sorted."""
    if not len(slot):
        return
    is_first = np.append(True, slot[1:] != slot[:-1])
    if is_first.all():
        yield np.arange(len(slot))
        return
    first = np.flatnonzero(is_first)
    number = np.arange(len(slot)) - np.repeat(first, np.diff(np.append(first, len(slot))))
    order = np.argsort(number, kind="stable")
    yield from np.split(order, np.cumsum(np.bincount(number))[:-1])


@dataclass(frozen=True, slots=True)
class Field:
    """An array of the state: what a new series begins with, its type, and how many of it a series has (0: one)."""

    initial: float
    dtype: type[np.generic] = np.float64
    width: int = 0


class SlotState:
    """Arrays over slots by name, [slots] or [slots, width]."""

    def __init__(self, fields: Mapping[str, Field], arrays: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        self._fields = dict(fields)
        self._arrays: dict[str, NDArray[Any]] = {}
        for name, field in self._fields.items():
            none = np.empty((0, field.width) if field.width else 0, field.dtype)
            # A copy: what was restored may be read-only, and belongs to whoever read it.
            self._arrays[name] = none if arrays is None else np.array(arrays[name], field.dtype)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it."""
        return dict(self._arrays)

    def grow(self, slots: int) -> None:
        """Room for new series."""
        for name, field in self._fields.items():
            old = self._arrays[name]
            if slots > len(old):
                new = np.full((slots - len(old), *old.shape[1:]), field.initial, field.dtype)
                self._arrays[name] = np.concatenate([old, new])

    def row(self, name: str, slot: Slots) -> NDArray[Any]:
        """Of these series."""
        return np.asarray(self._arrays[name][slot])

    def forget(self, slot: Slots) -> None:
        """These series are new again."""
        for name, field in self._fields.items():
            self._arrays[name][slot] = field.initial

    def put(self, slot: Slots, **columns: NDArray[Any]) -> Self:
        """What these series are now; a slot stands in `slot` once."""
        for name, column in columns.items():
            self._arrays[name][slot] = column
        return self
