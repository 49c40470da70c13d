"""Findings of a micro-batch into TimescaleDB: all of its rows and its entry in the ledger in one transaction."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from psycopg2.extras import execute_values

from stream import turn
from stream.analysis.staging import upsert
from stream.analysis.trend import REGIMES
from stream.connection import translated
from stream.ingest.batch import NUMERIC, SeriesColumn, SeriesKey
from stream.ingest.presence import utc
from stream.ingest.series import REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from psycopg2.extensions import connection, cursor

    from stream.analysis.findings import AnomalyRows, Findings, SeriesRows
    from stream.ingest.series import SeriesDictionary
    from stream.ingest.sink import BatchKey

logger = logging.getLogger(__name__)

_ENTER: Final = """
insert into analysis_batch (query_id, batch_id, offsets) values (%s, %s, %s) on conflict (query_id, batch_id) do nothing
"""
_ENTERED: Final = "select offsets from analysis_batch where (query_id, batch_id) = (%s, %s)"
_CLOSE_ENTRY: Final = """
update analysis_batch set committed_at = clock_timestamp(), offsets = %s, readings = %s, late = %s, bars = %s,
  trends = %s, anomalies = %s
where (query_id, batch_id) = (%s, %s)
"""
_ANOMALIES: Final = """
insert into anomaly (group_id, node_id, device_id, metric, detector, place, started_at, ended_at, peak_at, peak_score,
                     threshold, evidence) values %s
on conflict (group_id, node_id, device_id, metric, detector, place, started_at) do update
  set ended_at = excluded.ended_at, peak_at = excluded.peak_at, peak_score = excluded.peak_score,
      threshold = excluded.threshold, evidence = excluded.evidence, end_reason = null
"""
# A log that is read again from its beginning, by a new query, finds the same late readings again.
_LATE: Final = """
insert into late_reading (series_id, bucket_at, readings, query_id) values %s
on conflict (series_id, bucket_at) do update
  set readings = excluded.readings
        + case when late_reading.query_id = excluded.query_id then late_reading.readings else 0 end,
      query_id = excluded.query_id, noted_at = clock_timestamp()
"""
_NAMES: Final = ("group_id", "node_id", "device_id", "metric")
_BAR_KEY: Final = ("series_id", "width_s", "starts_at")
_TREND_KEY: Final = ("series_id", "at")


@dataclass(frozen=True, slots=True)
class Analysed:
    """What a batch came to."""

    readings: int = 0
    late: int = 0
    left_out: int = 0
    bars: int = 0
    trends: int = 0
    anomalies: int = 0


def store(
    opened: connection,
    series: SeriesDictionary,
    key: BatchKey,
    offsets: dict[str, dict[str, int]],
    found: Findings,
    first: Callable[[cursor], None] | None = None,
) -> Analysed | None:
    """Commit findings, after what is to be done `first`; None when the ledger has them already.

    Raises as `stream.ingest.sink.store`.
    """
    with translated(opened):
        ids = Ids.of(series, found)
        with opened.cursor() as cursor:
            turn.take(cursor, "analysis")
            if not _enter(cursor, key, offsets):
                opened.rollback()
                return None
            if first is not None:
                first(cursor)
            analysed = put(cursor, ids, found, str(key.query_id))
            counts = (analysed.readings, analysed.late, analysed.bars, analysed.trends, analysed.anomalies)
            cursor.execute(_CLOSE_ENTRY, (json.dumps(offsets), *counts, str(key.query_id), key.batch_id))
        opened.commit()
    return analysed


@dataclass(frozen=True, slots=True, eq=False)
class Ids:
    """The number of each row's series, int32 [rows of the kind]; REFUSED where a node has too many."""

    bars: NDArray[np.int32]
    trends: NDArray[np.int32]
    late: NDArray[np.int32]

    @classmethod
    def of(cls, series: SeriesDictionary, found: Findings) -> Self:
        """Looked up by when a row is of; series that the ingest has not stored yet are added, and committed."""
        names = zip(*(getattr(found.series, name) for name in _NAMES), strict=True)
        keys, datatypes = (
            tuple(SeriesKey._make((*name, NUMERIC)) for name in names),
            tuple(found.series.datatype.tolist()),
        )

        def ids(slot: NDArray[np.int32], at_ms: NDArray[np.int64]) -> NDArray[np.int32]:
            return series.ids(SeriesColumn(keys, datatypes, slot.astype(np.int64)), at_ms)

        # A trend is told at the end of its step, and of what was before that.
        return cls(
            ids(found.bars.slot, found.bars.starts_at_ms),
            ids(found.trends.slot, found.trends.at_ms - 1),
            ids(found.late.slot, found.late.bucket_at_ms),
        )


def put(cursor: cursor, ids: Ids, found: Findings, query_id: str) -> Analysed:
    """Write all rows, each in place of one of the same key."""
    bars = _columns(found.bars, ids.bars) | {"quotes": found.bars.quotes.astype(np.int32)}
    trends = _columns(found.trends, ids.trends) | {"regime": np.array(REGIMES, np.bytes_)[found.trends.regime]}
    stored_bars = upsert(cursor, "bar", _BAR_KEY, _known(bars))
    stored_trends = upsert(cursor, "trend", _TREND_KEY, _known(trends))
    anomalies = _anomalies(found.anomalies, found.series)
    execute_values(cursor, _ANOMALIES, anomalies)
    late = _known(_columns(found.late, ids.late))
    hours = zip(*(late[name].tolist() for name in ("series_id", "bucket_at_ms", "readings")), strict=True)
    execute_values(cursor, _LATE, [(number, utc(hour), count, query_id) for number, hour, count in hours])
    return Analysed(
        int(found.counts.readings.sum()),
        int(found.late.readings.sum()),
        int(found.counts.left_out.sum()),
        stored_bars,
        stored_trends,
        len(anomalies),
    )


def _columns(rows: Any, ids: NDArray[np.int32]) -> dict[str, NDArray[Any]]:  # noqa: ANN401 - rows of any kind
    """Rows of a kind, their series by number."""
    return {"series_id": ids} | {each.name: getattr(rows, each.name) for each in fields(rows) if each.name != "slot"}


def _known(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Without the rows of series that are not stored."""
    is_known = columns["series_id"] != REFUSED
    return columns if is_known.all() else {name: column[is_known] for name, column in columns.items()}


def _anomalies(rows: AnomalyRows, series: SeriesRows) -> list[tuple[Any, ...]]:
    names = zip(*(getattr(series, name)[rows.slot].tolist() for name in _NAMES), strict=True)
    ended = (utc(ms) if ms >= 0 else None for ms in rows.ended_at_ms.tolist())
    began, peaked = map(utc, rows.started_at_ms.tolist()), map(utc, rows.peak_at_ms.tolist())
    figures = rows.peak_score.tolist(), rows.threshold.tolist(), rows.evidence.tolist()
    return [
        (*name, detector, "cloud", *row)
        for name, detector, row in zip(
            names, rows.detector.tolist(), zip(began, ended, peaked, *figures, strict=True), strict=True
        )
    ]


def _enter(cursor: cursor, key: BatchKey, offsets: dict[str, dict[str, int]]) -> bool:
    """Write the ledger's entry; False when it stands there already, and nothing is left to do."""
    query_id = str(key.query_id)
    cursor.execute(_ENTER, (query_id, key.batch_id, json.dumps(offsets)))
    if cursor.rowcount:
        return True
    cursor.execute(_ENTERED, (query_id, key.batch_id))
    (entered,) = cursor.fetchone() or (None,)
    if entered != offsets:
        logger.warning(
            "batch %d of the analysis is in the ledger up to %s, and now ends at %s: stored again",
            key.batch_id,
            entered,
            offsets,
        )
    return bool(entered != offsets)
