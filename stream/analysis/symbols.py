"""Which series are prices, and which is the volume beside each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from stream.analysis.registry import NO_SLOT

if TYPE_CHECKING:
    from stream.analysis.arrivals import Arrivals, Slots
    from stream.analysis.config import AnalysisConfig
    from stream.analysis.registry import Registry
    from stream.ingest.columns import SeriesName


@dataclass(frozen=True, slots=True, eq=False)
class Symbols:
    """Prices and the volumes beside them that are new since there were `known` slots; NO_SLOT: no volume, all [n]."""

    known: int
    price: Slots
    volume: Slots

    @classmethod
    def since(cls, known: int, registry: Registry, settings: AnalysisConfig) -> Self:
        """Those of which the registry has learnt the price or the volume last."""
        new = registry.names(np.arange(known, len(registry), dtype=np.int32))
        words = {settings.price, settings.volume}
        prices = {beside(name, settings.price): None for name in new if word(name) in words}
        price = registry.find([*prices])
        volume = registry.find([beside(name, settings.volume) for name in prices])
        return cls(known, price[price != NO_SLOT], volume[price != NO_SLOT])

    def heard(self, arrivals: Arrivals) -> Arrivals:
        """The arrivals, but a volume counts from the first reading of its price on.

        Whether one that came before it was in an earlier micro-batch, or in this one, must not matter.
        """
        is_new = (self.price >= self.known) & (self.volume != NO_SLOT)
        if not is_new.any():
            return arrivals
        slots, end = len(arrivals.marks_ms), len(arrivals.slot)
        first = np.full(slots, end)
        np.minimum.at(first, arrivals.slot, np.arange(end))
        from_place = np.zeros(slots, np.int64)
        from_place[self.volume[is_new]] = first[self.price[is_new]]
        is_heard = np.arange(end) >= from_place[arrivals.slot]
        return replace(arrivals, value=np.where(is_heard, arrivals.value, np.nan))


def word(name: SeriesName) -> str:
    """The last one of its metric."""
    return name.metric.rpartition("/")[2]


def beside(name: SeriesName, last: str) -> SeriesName:
    """The series beside it whose metric has another last word."""
    before, slash, _ = name.metric.rpartition("/")
    return name._replace(metric=f"{before}{slash}{last}")
