"""A span of time worked out again from the readings in the database, in order of time: nothing is late then."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from contract.sparkplug import Quality
from stream import turn
from stream.analysis.arrivals import Arrivals
from stream.analysis.detectors import Detectors
from stream.analysis.findings import Counts, Ends, Findings, LateRows, SeriesRows, none
from stream.analysis.kept import Kept
from stream.analysis.lasting import Lasting
from stream.analysis.marks import max_before
from stream.analysis.registry import Registry
from stream.analysis.sink import Analysed, Ids, put
from stream.analysis.span import DAY_MS, HOUR_MS
from stream.analysis.symbols import beside, word
from stream.connection import connect, translated
from stream.forecasting.lookup import oldest_ms
from stream.forecasting.readings import read
from stream.ingest.series import MAX_PER_NODE, SeriesDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg2.extensions import connection, cursor

    from stream.analysis.config import AnalysisConfig
    from stream.analysis.detectors import Detected
    from stream.analysis.span import Span
    from stream.forecasting.readings import Read
    from stream.ingest.columns import SeriesName

logger = logging.getLogger(__name__)

# Of readings: so many are read at once, more or less.
_AT_ONCE: Final = 500_000
_SERIES_AT_ONCE: Final = 500
# After the last reading this much time passes, so that all bars, steps and incidents end.
_CALM_MS: Final = 2 * DAY_MS


@dataclass(frozen=True, slots=True)
class Stored:
    """A series, in all its versions."""

    name: SeriesName
    datatype: int
    ids: tuple[int, ...]


@dataclass(slots=True)
class Replayed:
    """What was made again."""

    series: int = 0
    readings: int = 0
    bars: int = 0
    trends: int = 0
    anomalies: int = 0


def replay(
    settings: AnalysisConfig, dsn: str, wanted: Sequence[Stored], span: Span, max_series_per_node: int = MAX_PER_NODE
) -> Replayed:
    """Work out bars, trends and anomalies of a span again, in place of what there is of it.

    Detectors see the readings from `warm_up_ms` before the span on, and bars that begin or end within the span are made
    whole. What is before the day of a group's oldest reading stays: readings may be kept for a shorter time than what
    was made of them. It goes by groups of series and pieces of time, each in a transaction of its own; broken off, it
    can be done again. Raises DatabaseAway and FatalError.
    """
    made, done = Replayed(), 0
    with closing(connect(dsn)) as opened, translated(opened):
        series = SeriesDictionary(opened, max_per_node=max_series_per_node)
        for group in groups(wanted, settings):
            _Group(settings, opened, series, group, span, made).run()
            done += len(group)
            logger.info("%d of %d series done", done, len(wanted))
    return made


def groups(wanted: Sequence[Stored], settings: AnalysisConfig) -> Iterator[list[Stored]]:
    """Some at once, a price and the volume beside it always together."""
    words = {settings.price, settings.volume}

    def symbol(each: Stored) -> SeriesName:
        return beside(each.name, settings.price) if word(each.name) in words else each.name

    group: list[Stored] = []
    for _, together in groupby(sorted(wanted, key=symbol), symbol):
        group += together
        if len(group) >= _SERIES_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


class _Group:
    """Some series, together."""

    def __init__(
        self,
        settings: AnalysisConfig,
        opened: connection,
        series: SeriesDictionary,
        wanted: Sequence[Stored],
        span: Span,
        made: Replayed,
    ) -> None:
        self._settings, self._opened, self._series, self._span, self._made = settings, opened, series, span, made
        self._asked = span
        self._registry = Registry()
        names = [each.name for each in wanted]
        self._registry.take(names, np.array([each.datatype for each in wanted], np.int16), len(names))
        self._ids = [each for one in wanted for each in one.ids]
        slots = np.repeat(np.arange(len(wanted), dtype=np.int32), [len(each.ids) for each in wanted])
        self._slot_of_id = dict(zip(self._ids, slots.tolist(), strict=True))
        self._state: dict[str, bytes] = {}
        self._own_ms = np.zeros(len(wanted), np.int64)
        self._known = 0
        self._dropped_to_ms = 0
        self._lasting = Lasting(span.now_ms)

    def run(self) -> None:
        begin_ms, last_ms = self._reach()
        width_ms = HOUR_MS
        while begin_ms < last_ms:
            end_ms = min(begin_ms + width_ms, last_ms)
            count = self._piece(begin_ms, end_ms)
            begin_ms = end_ms
            if count < _AT_ONCE // 2:
                width_ms = min(width_ms * 2, DAY_MS)
            elif count > _AT_ONCE * 2:
                width_ms = max(width_ms // 2, HOUR_MS // 60)
        late_ms = 0 if self._settings.bars is None else round(self._settings.bars.late_after_s * 1000)
        self._finish(min(last_ms + _CALM_MS + late_ms, self._span.now_ms))
        self._made.series += len(self._registry)

    def _reach(self) -> tuple[int, int]:
        """From when to when there are readings to look at; what is older than the day of the first stays as it is."""
        span = self._span
        with self._opened.cursor() as cursor:
            oldest = oldest_ms(cursor, self._ids, span.reads_from_ms, span.reads_to_ms)
        self._opened.commit()
        if oldest is None:
            self._dropped_to_ms = span.to_ms
            return span.reads_to_ms, span.reads_to_ms
        # Readings go by the day, and so what is left of a day is all of it.
        self._span = replace(span, from_ms=max(span.from_ms, oldest // DAY_MS * DAY_MS))
        return max(span.reads_from_ms, oldest // HOUR_MS * HOUR_MS), span.reads_to_ms

    def _piece(self, begin_ms: int, end_ms: int) -> int:
        """Readings of a piece of time, and what they tell; how many they were."""
        with self._opened.cursor() as cursor:
            readings = read(cursor, [(number, begin_ms, end_ms) for number in self._ids])
        self._opened.commit()
        arrivals = self._arrivals(readings, end_ms)
        self._write(self._advance(arrivals), end_ms)
        self._made.readings += len(arrivals.slot)
        return len(arrivals.slot)

    def _finish(self, mark_ms: int) -> None:
        """Close what is open, and forget what had been late."""
        none_came = np.empty(0, np.int64)
        marks_ms = np.full(len(self._registry), mark_ms, np.int64)
        arrivals = Arrivals(none_came.astype(np.int32), none_came, np.empty(0), none_came, marks_ms)
        self._write(self._advance(arrivals), self._span.to_ms)
        turn.in_turn(self._opened, "analysis", self._settle)

    def _settle(self, cursor: cursor) -> None:
        names = self._registry.names(np.arange(len(self._registry), dtype=np.int32))
        self._lasting.settle(cursor, dict(zip(names, self._own_ms.tolist(), strict=True)))
        self._drop_late(cursor)

    def _drop_late(self, cursor: cursor) -> None:
        """Of symbols not for as long as the job has the widest bar open: when that is final, it lacks them again."""
        span, bars = self._asked, self._settings.bars
        late_ms = 0 if bars is None else round(bars.late_after_s * 1000)
        open_ms = (span.now_ms - late_ms) // span.widest_ms * span.widest_ms
        words = {self._settings.price, self._settings.volume}
        names = self._registry.names(np.arange(len(self._registry), dtype=np.int32))
        of_symbol = {number for number in self._ids if word(names[self._slot_of_id[number]]) in words}
        span.drop_late(cursor, sorted(of_symbol), open_ms)
        span.drop_late(cursor, sorted({*self._ids} - of_symbol))

    def _arrivals(self, readings: Read, complete_ms: int) -> Arrivals:
        """In order of time; before `complete_ms` nothing is missing of any of them."""
        order = np.argsort(readings.at_ms, kind="stable")
        slot_of_place = np.array([self._slot_of_id[number] for number in self._ids], np.int32)
        by_id = np.argsort(self._ids)
        place = by_id[np.searchsorted(np.array(self._ids), readings.series_id[order], sorter=by_id)]
        slot, at_ms = slot_of_place[place], readings.at_ms[order]
        value = np.where(readings.quality == Quality.GOOD, readings.value, np.nan)[order]
        mark_ms = max_before(at_ms, slot, self._own_ms)
        np.maximum.at(self._own_ms, slot, at_ms)
        return Arrivals(slot, at_ms, value, mark_ms, np.full(len(self._registry), complete_ms, np.int64))

    def _advance(self, arrivals: Arrivals) -> Detected:
        kept = Kept(self._state)
        detected = Detectors(self._settings, kept).advance(arrivals, self._registry, self._known)
        self._state |= kept.changed
        self._known = len(self._registry)
        return detected

    def _write(self, detected: Detected, end_ms: int) -> None:
        """Put what is of the span in place of what there was up to here."""
        names = np.array(self._registry.names(np.arange(len(self._registry), dtype=np.int32)), np.object_)
        series = SeriesRows(*names.reshape(-1, 4).T, self._registry.datatypes)  # type: ignore[call-arg]  # of four columns
        rows = {each.name: getattr(detected, each.name) for each in fields(detected)}
        found = self._span.of(Findings(series, **rows, ends=none(Ends), counts=none(Counts)))
        found = replace(found, late=none(LateRows))
        ids = Ids.of(self._series, found)
        # What began before the span and reaches into it goes first of all: it may not be told twice.
        last_ms = min(max(end_ms, self._span.from_ms), self._span.to_ms)

        def write(cursor: cursor) -> Analysed:
            if last_ms > self._dropped_to_ms:
                self._lasting.gone(self._span.drop(cursor, self._ids, self._dropped_to_ms, last_ms))
            return put(cursor, ids, found, "")

        counts = turn.in_turn(self._opened, "analysis", write)
        self._dropped_to_ms = max(self._dropped_to_ms, last_ms)
        self._lasting.told(found)
        self._made.bars += counts.bars
        self._made.trends += counts.trends
        self._made.anomalies += counts.anomalies
