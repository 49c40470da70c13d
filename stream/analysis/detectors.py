"""Arrivals to findings: every part of the analysis, one after the other. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stream.analysis.anomalies import Anomalies
from stream.analysis.bars import BarRows, Bars
from stream.analysis.findings import AnomalyRows, LateRows, joined, none
from stream.analysis.registry import NO_SLOT
from stream.analysis.steps import StepBook, firsts
from stream.analysis.symbols import Symbols
from stream.analysis.trend import TrendRows, Trends

if TYPE_CHECKING:
    from contract.config import Config
    from stream.analysis.arrivals import Arrivals, Steps, Times
    from stream.analysis.config import AnalysisConfig
    from stream.analysis.kept import Kept
    from stream.analysis.registry import Registry
    from stream.analysis.steps import Late

_BUCKET_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """What arrivals came to; `slot` is that of the shard."""

    bars: BarRows
    trends: TrendRows
    anomalies: AnomalyRows
    late: LateRows


class Detectors:
    """All parts over the series of one shard."""

    def __init__(self, settings: AnalysisConfig, kept: Kept) -> None:
        self._settings = settings
        self._kept = kept

    def advance(self, arrivals: Arrivals, registry: Registry, known: int) -> Detected:
        """The rows that these arrivals make, and the state after them; before them there were `known` series."""
        slots = len(registry)
        bars = self._bars(arrivals, Symbols.since(known, registry, self._settings), slots)
        steps, late = self._steps(arrivals)
        trends, anomalies = self._trends(steps, slots), self._anomalies(steps, arrivals.marks_ms, registry)
        return Detected(bars, trends, anomalies, by_hour(late))

    def _bars(self, arrivals: Arrivals, symbols: Symbols, slots: int) -> BarRows:
        settings = self._settings.bars
        if settings is None:
            return none(BarRows)
        bars = Bars(settings, self._kept.arrays("bars", Bars.FORMAT))
        bars.grow(slots)
        for price, volume in zip(symbols.price.tolist(), symbols.volume.tolist(), strict=True):
            bars.watch(price, None if volume == NO_SLOT else volume)
        rows = bars.advance(symbols.heard(arrivals))
        self._kept.keep("bars", bars.arrays(), Bars.FORMAT)
        return rows

    def _steps(self, arrivals: Arrivals) -> tuple[Steps, Late]:
        settings = self._settings
        book = StepBook(settings.step_ms, round(settings.grace_s * 1000), self._kept.arrays("steps", StepBook.FORMAT))
        closed = book.advance(arrivals)
        self._kept.keep("steps", book.arrays(), StepBook.FORMAT)
        return closed

    def _trends(self, steps: Steps, slots: int) -> TrendRows:
        settings = self._settings.trend
        if settings is None or not len(steps.slot):
            return none(TrendRows)
        trends = Trends(
            settings, self._settings.step_ms, self._kept.arrays("trends", Trends.FORMAT, self._made_by(settings))
        )
        trends.grow(slots)
        rows = trends.advance(steps)
        self._kept.keep("trends", trends.arrays(), Trends.FORMAT, self._made_by(settings))
        return rows

    def _anomalies(self, steps: Steps, marks_ms: Times, registry: Registry) -> AnomalyRows:
        settings = self._settings.anomalies
        if settings is None:
            return none(AnomalyRows)
        anomalies = Anomalies(
            settings, self._settings.step_ms, self._kept.arrays("anomalies", Anomalies.FORMAT, self._made_by(settings))
        )
        anomalies.grow(len(marks_ms))
        # The steps that ended by then are closed.
        told = anomalies.advance(steps, marks_ms - round(self._settings.grace_s * 1000))
        self._kept.keep("anomalies", anomalies.arrays(), Anomalies.FORMAT, self._made_by(settings))
        return joined([none(AnomalyRows), *(AnomalyRows.of(each, registry) for each in told)])

    def _made_by(self, settings: Config) -> str:
        """What the shape and the meaning of a detector's arrays hang on."""
        return f"{self._settings.step_s} {settings.model_dump_json()}"


def by_hour(late: Late) -> LateRows:
    """Late readings, counted."""
    bucket = late.at_ms // _BUCKET_MS * _BUCKET_MS
    order = np.lexsort((bucket, late.slot))
    slot, bucket = late.slot[order], bucket[order]
    first = firsts(slot, bucket)
    return LateRows(slot[first], bucket[first], np.diff(np.append(first, len(slot))).astype(np.int64))
