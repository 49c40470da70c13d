"""What models on devices have told, brought from the readings into the tables: what is new, and what came late.

Whatever is less than `late_s` old is landed, in whatever order it came: each round what is newer than what was landed
last, and every `rescan_s` each stretch of time of which there are more results than when it was looked at. What is
older is left to a replay. All of it may be done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stream.errors import StopRequested
from stream.forecasting import tables
from stream.forecasting.cloud import forecaster
from stream.forecasting.edge import Versions, fan_of, forecasts
from stream.forecasting.lookup import counts, newest_ms, texts
from stream.forecasting.readings import read, text_of
from stream.forecasting.tables import Done, Place
from stream.forecasting.watched import Device, Watched

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence

    from psycopg2.extensions import cursor

    from stream.forecasting.cloud import Bound
    from stream.forecasting.edge import Results
    from stream.forecasting.tables import Forecast

EDGE: Final[Place] = "edge"
AHEAD_MS: Final = 60_000
_OVERLAP_MS: Final = 30_000
_BUCKET_MS: Final = 600_000
# A device that tells 12 numbers a second has 43,200 readings an hour.
_PIECE_MS: Final = 3_600_000
_PIECES_AT_ONCE: Final = 20

_LANDED: Final = """
select group_id, node_id, device_id, subject,
       (extract(epoch from made_at) * 1000)::bigint / %(bucket)s * %(bucket)s as bucket, count(*)
  from forecaster join forecast using (forecaster_id)
 where (place, model, target) = ('edge', %(model)s, %(target)s) and horizon_s = %(horizon_s)s
   and made_at >= %(first)s and made_at < %(last)s
 group by group_id, node_id, device_id, subject, bucket
"""


class Counts:
    """How many results there were of each stretch of time when it was looked at: by series and begin."""

    def __init__(self, late_ms: int) -> None:
        self._late_ms = late_ms
        self._counts: dict[tuple[int, int], int] = {}
        self._known: set[str] = set()

    def changed(self, cursor: cursor, bound: Bound, now_ms: int) -> list[tuple[Watched, int, int]]:
        """The stretches (watched, from ms, to ms) of which there are other results than before."""
        markers = markers_of(bound)
        if not markers:
            return []
        first, last = (now_ms - self._late_ms) // _BUCKET_MS * _BUCKET_MS, now_ms + AHEAD_MS
        if bound.manifest.name not in self._known:
            # So that a restart need not look at all of them again.
            self._counts |= _landed(cursor, bound, first, last)
            self._known.add(bound.manifest.name)
        now = counts(cursor, list(markers), first, last, _BUCKET_MS)
        changed = sorted(key for key, count in now.items() if count != self._counts.get(key))
        self._counts = {key: count for key, count in self._counts.items() if key[1] >= first} | now
        return [(markers[series], begin, begin + _BUCKET_MS) for series, begin in changed]


class Landing:
    """The forecasts of devices; it commits as it goes."""

    def __init__(self, forecasters: tables.Forecasters, late_ms: int, stop: threading.Event | None = None) -> None:
        self._forecasters = forecasters
        self._late_ms = late_ms
        self._stop = stop
        self._counts = Counts(late_ms)
        self._newest: dict[int, int] = {}

    def land(self, cursor: cursor, bound: Bound, now_ms: int, *, late: bool) -> int:
        """Bring in what is new, and with `late` what came late; how many were."""
        found = self._land_new(cursor, bound, now_ms)
        return found + self.land_spans(cursor, bound, self._counts.changed(cursor, bound, now_ms)) if late else found

    def land_spans(self, cursor: cursor, bound: Bound, spans: Iterable[tuple[Watched, int, int]]) -> int:
        """Those made within spans (watched, from ms, to ms), a bounded number at once; how many were new.

        Raises StopRequested between two of those.
        """
        pieces = [
            (watched, begin, min(begin + _PIECE_MS, to_ms))
            for watched, from_ms, to_ms in spans
            for begin in range(from_ms, to_ms, _PIECE_MS)
        ]
        found = 0
        for first in range(0, len(pieces), _PIECES_AT_ONCE):
            if self._stop is not None and self._stop.is_set():
                raise StopRequested
            found += self._land_pieces(cursor, bound, pieces[first : first + _PIECES_AT_ONCE])
            cursor.connection.commit()
        return found

    def _land_new(self, cursor: cursor, bound: Bound, now_ms: int) -> int:
        markers = markers_of(bound)
        newest = newest_ms(cursor, list(markers), now_ms - self._late_ms, now_ms + AHEAD_MS) if markers else {}
        newer = {markers[series]: ms for series, ms in newest.items() if ms > self._newest.get(series, 0)}
        if not newer:
            return 0
        done = tables.done(cursor, EDGE, bound.manifest.name)
        spans = [
            (
                watched,
                max(done[watched].done_to_ms - _OVERLAP_MS if watched in done else 0, now_ms - self._late_ms),
                ms + 1,
            )
            for watched, ms in newer.items()
        ]
        found = self.land_spans(cursor, bound, spans)
        tables.put_done(cursor, EDGE, bound.manifest.name, {watched: Done(ms) for watched, ms in newer.items()})
        cursor.connection.commit()
        self._newest |= newest
        return found

    def _land_pieces(self, cursor: cursor, bound: Bound, pieces: Sequence[tuple[Watched, int, int]]) -> int:
        wanted = [
            (series, from_ms, to_ms)
            for watched, from_ms, to_ms in pieces
            for series in bound.results[watched].metrics.values()
        ]
        readings = read(cursor, wanted)
        made: list[Forecast] = []
        for watched in dict.fromkeys(watched for watched, _, _ in pieces):
            results = bound.results[watched]
            who = {
                target.name: forecaster(bound.manifest, bound.series[watched], watched, target, EDGE)
                for target in bound.manifest.targets
            }
            spans = [span for one, *span in pieces if one == watched]
            versions = versions_of(cursor, results, min(first for first, _ in spans), max(last for _, last in spans))
            made += forecasts(who, results, readings, versions)
        return tables.add_forecasts(cursor, self._forecasters, made)


def markers_of(bound: Bound) -> dict[int, Watched]:
    """The series that has a reading with every result, of each watched."""
    found = ((results.metrics, results.marker, watched) for watched, results in bound.results.items())
    return {metrics[marker]: watched for metrics, marker, watched in found if marker is not None}


def versions_of(cursor: cursor, results: Results, from_ms: int, to_ms: int) -> Versions:
    """Which version the device told when."""
    told = [] if results.version is None else texts(cursor, results.version, from_ms, to_ms)
    return Versions(np.array([at_ms for at_ms, _ in told], np.int64), [name for _, name in told])


def _landed(cursor: cursor, bound: Bound, from_ms: int, to_ms: int) -> dict[tuple[int, int], int]:
    """How many of the forecasts that are counted are in the table, of each stretch of time."""
    marker = {results.marker for results in bound.results.values() if results.marker is not None}
    parsed = fan_of(min(marker))
    if parsed is None:
        return {}
    (target, horizon_ms), _ = parsed
    given = {"model": bound.manifest.name, "target": target, "horizon_s": horizon_ms / 1000, "bucket": _BUCKET_MS}
    cursor.execute(_LANDED, given | {"first": text_of(from_ms), "last": text_of(to_ms)})
    series = {watched: number for number, watched in markers_of(bound).items()}
    return {
        (series[watched], bucket): count
        for *device, subject, bucket, count in cursor.fetchall()
        if (watched := Watched(Device(*device), subject)) in series
    }
