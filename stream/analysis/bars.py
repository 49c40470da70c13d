"""Bars of prices: open, high, low, close and volume, by the time at which they were quoted."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np
from pydantic import Field, field_validator

from contract.config import Config
from stream.analysis.quotes import Quotes
from stream.analysis.steps import firsts
from stream.analysis.widths import SessionConfig, spans

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Arrivals, Floats, Slots, Times

_NEITHER, _PRICE, _VOLUME = range(3)
_MS: Final = 1000
# Volumes are summed in whole ten-thousandths, or the last bit would tell in which order.
_PARTS: Final = 10_000


class BarsConfig(Config):
    """Which bars are made, and for how long they are open to quotes that come late."""

    widths_s: tuple[int, ...] = Field(
        (60, 300, 3600, 86_400), min_length=1, description="seconds; each a whole multiple of the first"
    )
    late_after_s: float = Field(
        3600, ge=0, description="seconds for which a bar is corrected after its end; quotes later than that are counted"
    )
    session: SessionConfig | None = Field(None, description="when the market is open; none: a day's bar is that of UTC")

    @field_validator("widths_s")
    @classmethod
    def _are_made_of_the_first(cls, widths_s: tuple[int, ...]) -> tuple[int, ...]:
        if min(widths_s) <= 0 or any(width % widths_s[0] for width in widths_s) or len({*widths_s}) < len(widths_s):
            raise ValueError(f"{widths_s}: allowed are different widths above 0, whole multiples of the first")
        return widths_s


@dataclass(frozen=True, slots=True, eq=False)
class BarRows:
    """Bars as they are now, all [n]: a later row of the same slot, width and begin takes the place of this one.

    `slot` is the price's; `volume` is NaN where none is told.
    """

    slot: Slots
    width_s: NDArray[np.int32]
    starts_at_ms: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    quotes: NDArray[np.int64]
    is_final: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Parts of bars, all [n]: what was quoted from `at_ms` on; with no quotes, the volume alone, in `_PARTS`."""

    slot: Slots
    at_ms: Times
    begin_ms: Times
    end_ms: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    quotes: NDArray[np.int64]

    def where(self, chosen: NDArray[np.generic]) -> Self:
        return type(self)(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def and_(self, other: Self) -> Self:
        pairs = ((getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return type(self)(*(np.concatenate(pair) for pair in pairs))

    def by_bar(self) -> Self:
        """One piece for each bar: pieces of a bar follow each other in time."""
        order = np.lexsort((self.at_ms, self.begin_ms, self.slot))
        rows = self.where(order)
        first = firsts(rows.slot, rows.begin_ms)
        if not len(first):
            return rows
        place = np.arange(len(order))
        is_quoted = rows.quotes > 0
        opening = np.minimum.reduceat(np.where(is_quoted, place, len(order) - 1), first)
        closing = np.maximum.reduceat(np.where(is_quoted, place, 0), first)
        is_known = np.isfinite(rows.volume)
        volume = np.add.reduceat(np.where(is_known, rows.volume, 0.0), first)
        return type(self)(
            rows.slot[first],
            rows.at_ms[first],
            rows.begin_ms[first],
            rows.end_ms[first],
            rows.open[opening],
            np.fmax.reduceat(rows.high, first),
            np.fmin.reduceat(rows.low, first),
            rows.close[closing],
            np.where(np.logical_or.reduceat(is_known, first), volume, np.nan),
            np.add.reduceat(rows.quotes, first),
        )


class Bars:
    """Bars of every width, corrected by late quotes until `late_after_s` past their end.

    Quotes are kept as they came for that long, and the narrowest bars are made of them; wider bars are made of these. A
    bar in which nothing was quoted does not exist. A volume is the day's total so far, as exchanges tell it: a bar's is
    what it grew by, and where it fell, a new day has begun.
    """

    FORMAT: ClassVar[int] = 1

    def __init__(self, settings: BarsConfig, arrays: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        self._settings = settings
        self._late_ms = round(settings.late_after_s * _MS)
        kept = arrays or {}
        self._role = np.asarray(kept.get("role", np.empty(0)), np.int8)
        # For a price its volume's slot, for a volume its price's; itself where there is none.
        self._partner = np.asarray(kept.get("partner", np.empty(0)), np.int32)
        self._total = np.asarray(kept.get("total", np.empty(0)), np.float64)  # of a price's volume, before `volumes`
        self._prices, self._volumes = Quotes.of(kept, "price"), Quotes.of(kept, "volume")
        # Of each wider bar that is open, what is final already.
        self._done = {width_s: _stored(kept, width_s) for width_s in settings.widths_s[1:]}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Its whole state."""
        kept: dict[str, NDArray[np.generic]] = {"role": self._role, "partner": self._partner, "total": self._total}
        kept |= self._prices.arrays("price") | self._volumes.arrays("volume")
        for width_s, done in self._done.items():
            kept |= {f"done_{width_s}_{each.name}": getattr(done, each.name) for each in fields(done)}
        return kept

    def grow(self, slots: int) -> None:
        """Make room for new series, which are no prices until `watch` says so."""
        before = len(self._role)
        if slots > before:
            self._role = np.append(self._role, np.full(slots - before, _NEITHER, np.int8))
            self._partner = np.append(self._partner, np.arange(before, slots, dtype=np.int32))
            self._total = np.append(self._total, np.full(slots - before, np.nan))

    def watch(self, price: int, volume: int | None = None) -> None:
        """Take a series for a price, and perhaps another for the volume of the same symbol."""
        self._role[price] = _PRICE
        if volume is not None:
            self._role[volume] = _VOLUME
            self._partner[[price, volume]] = volume, price

    def advance(self, arrivals: Arrivals) -> BarRows:
        """The bars that these readings change or make final."""
        touched = self._take(arrivals)
        marks_ms = np.minimum(arrivals.marks_ms, arrivals.marks_ms[self._partner[: len(arrivals.marks_ms)]])
        narrow = self._narrow()
        is_final = self._is_final(narrow, marks_ms)
        first, *wider = self._settings.widths_s
        rows = [self._told(first, narrow, touched, is_final)]
        rows += [self._wider(width_s, narrow, touched, is_final, marks_ms) for width_s in wider]
        self._forget(marks_ms)
        return BarRows(*(np.concatenate([getattr(each, name) for each in rows]) for name in BarRows.__slots__))

    def _take(self, arrivals: Arrivals) -> NDArray[np.int64]:
        """Keep what is not late; the touched narrow bars, as `_key`s."""
        role = self._role[arrivals.slot]
        begin_ms = self._begin(arrivals.at_ms)
        taken = (role != _NEITHER) & np.isfinite(arrivals.value)
        taken &= begin_ms + self._settings.widths_s[0] * _MS + self._late_ms > arrivals.mark_ms
        slot = np.where(role == _VOLUME, self._partner[arrivals.slot], arrivals.slot).astype(np.int32)
        for kind, name in ((_PRICE, "_prices"), (_VOLUME, "_volumes")):
            new = taken & (role == kind)
            setattr(self, name, getattr(self, name).with_new(slot[new], arrivals.at_ms[new], arrivals.value[new]))
        is_volume = taken & (role == _VOLUME)
        # The total after a new one has grown by less than before.
        after = self._volumes.after(slot[is_volume], arrivals.at_ms[is_volume])
        touched = _key(slot[taken], begin_ms[taken]), _key(after.slot, self._begin(after.at_ms))
        return np.unique(np.concatenate(touched))

    def _begin(self, at_ms: Times) -> Times:
        width_ms = self._settings.widths_s[0] * _MS
        return at_ms // width_ms * width_ms

    def _narrow(self) -> _Pieces:
        """The narrowest bars of all that is kept; where there was a volume only, without quotes."""
        prices, volumes = self._prices, self._volumes
        count, none = len(prices.slot), np.full(len(volumes.slot), np.nan)
        at_ms = np.concatenate([prices.at_ms, volumes.at_ms])
        begin_ms = self._begin(at_ms)
        value = np.concatenate([prices.value, none])
        return _Pieces(
            np.concatenate([prices.slot, volumes.slot]),
            at_ms,
            begin_ms,
            begin_ms + self._settings.widths_s[0] * _MS,
            value,
            value,
            value,
            value,
            np.concatenate([np.full(count, np.nan), self._grown()]),
            (np.arange(len(at_ms)) < count).astype(np.int64),
        ).by_bar()

    def _grown(self) -> Floats:
        """What the total grew by with each reading of a volume, in `_PARTS`; 0 with the very first."""
        slot, total = self._volumes.slot, self._volumes.value
        first = firsts(slot)
        before = np.roll(total, 1)
        before[first] = self._total[slot[first]]
        grown = np.where(np.isnan(before), 0.0, total - before)
        return np.asarray(np.round(np.where(grown < 0, total, grown) * _PARTS), np.float64)

    def _wider(
        self,
        width_s: int,
        narrow: _Pieces,
        touched: NDArray[np.int64],
        is_final: NDArray[np.bool_],
        marks_ms: Times,
    ) -> BarRows:
        within = spans(narrow.begin_ms, width_s, self._settings.session)
        inside = within.begin_ms >= 0
        pieces = _Pieces(narrow.slot, narrow.begin_ms, within.begin_ms, within.end_ms, *_ohlc(narrow)).where(inside)
        is_touched = np.isin(_key(narrow.slot, narrow.begin_ms), touched)[inside]
        changed = _key(pieces.slot[is_touched], pieces.begin_ms[is_touched])
        bars = self._done[width_s].and_(pieces).by_bar()
        ended = self._is_final(bars, marks_ms)
        done = self._done[width_s].and_(pieces.where(is_final[inside])).by_bar()
        self._done[width_s] = done.where(~self._is_final(done, marks_ms))
        return self._told(width_s, bars, changed, ended)

    def _is_final(self, bars: _Pieces, marks_ms: Times) -> NDArray[np.bool_]:
        return np.asarray(bars.end_ms + self._late_ms <= marks_ms[bars.slot], np.bool_)

    def _told(self, width_s: int, bars: _Pieces, changed: NDArray[np.int64], is_final: NDArray[np.bool_]) -> BarRows:
        told = (np.isin(_key(bars.slot, bars.begin_ms), changed) | is_final) & (bars.quotes > 0)
        rows = bars.where(told)
        width = np.full(len(rows.slot), width_s, np.int32)
        prices = rows.open, rows.high, rows.low, rows.close
        return BarRows(rows.slot, width, rows.begin_ms, *prices, rows.volume / _PARTS, rows.quotes, is_final[told])

    def _forget(self, marks_ms: Times) -> None:
        """Drop the readings of bars that are final, and remember up to which total their volume was counted."""
        width_ms = self._settings.widths_s[0] * _MS
        for name in ("_prices", "_volumes"):
            kept: Quotes = getattr(self, name)
            gone = self._begin(kept.at_ms) + width_ms + self._late_ms <= marks_ms[kept.slot]
            if name == "_volumes":
                self._total[kept.slot[gone]] = kept.value[gone]  # of several the latest stays
            setattr(self, name, kept.where(~gone))


def _ohlc(pieces: _Pieces) -> tuple[Floats, Floats, Floats, Floats, Floats, NDArray[np.int64]]:
    return pieces.open, pieces.high, pieces.low, pieces.close, pieces.volume, pieces.quotes


def _key(slot: Slots, begin_ms: Times) -> NDArray[np.int64]:
    """A number for each pair: a second has room for a million slots until the year 2262."""
    return np.asarray(begin_ms // _MS * (1 << 20) + slot, np.int64)


def _stored(arrays: Mapping[str, NDArray[np.generic]], width_s: int) -> _Pieces:
    types = {"slot": np.int32, "quotes": np.int64, "at_ms": np.int64, "begin_ms": np.int64, "end_ms": np.int64}
    columns = ((each.name, types.get(each.name, np.float64)) for each in fields(_Pieces))
    return _Pieces(*(np.asarray(arrays.get(f"done_{width_s}_{name}", np.empty(0)), kind) for name, kind in columns))
