"""Findings of a micro-batch into TimescaleDB: all of its rows and its entry in the ledger in one transaction."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from psycopg2.extras import execute_values

from stream.analysis.staging import upsert
from stream.analysis.trend import REGIMES
from stream.connection import translated
from stream.ingest.batch import NUMERIC, SeriesColumn, SeriesKey

if TYPE_CHECKING:
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
      threshold = excluded.threshold, evidence = excluded.evidence
"""
# A log that is read again from its beginning, by a new query, finds the same late readings again.
_LATE: Final = """
insert into late_reading (series_id, bucket_at, readings, query_id) values %s
on conflict (series_id, bucket_at) do update
  set readings = excluded.readings
        + case when late_reading.query_id = excluded.query_id then late_reading.readings else 0 end,
      query_id = excluded.query_id, noted_at = clock_timestamp()
"""
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
    opened: connection, series: SeriesDictionary, key: BatchKey, offsets: dict[str, dict[str, int]], found: Findings
) -> Analysed | None:
    """Commit findings; None when the ledger has them already. Raises as `stream.ingest.sink.store`."""
    with translated(opened):
        ids = series_ids(series, found.series)
        with opened.cursor() as cursor:
            if not _enter(cursor, key, offsets):
                opened.rollback()
                return None
            analysed = put(cursor, ids, found, str(key.query_id))
            counts = (analysed.readings, analysed.late, analysed.bars, analysed.trends, analysed.anomalies)
            cursor.execute(_CLOSE_ENTRY, (json.dumps(offsets), *counts, str(key.query_id), key.batch_id))
        opened.commit()
    return analysed


def series_ids(series: SeriesDictionary, rows: SeriesRows) -> NDArray[np.int32]:
    """Their numbers; those that the ingest has not stored yet are added, and committed."""
    names = zip(rows.group_id, rows.node_id, rows.device_id, rows.metric, strict=True)
    keys = tuple(SeriesKey(*name, NUMERIC) for name in names)
    return series.ids(SeriesColumn(keys, tuple(rows.datatype.tolist()), np.arange(len(keys))))


def put(cursor: cursor, ids: NDArray[np.int32], found: Findings, query_id: str) -> Analysed:
    """Write all rows, each in place of one of the same key; `ids` [series] are the numbers of `found.series`."""
    bars, trends = found.bars, found.trends
    bar_columns = {name: getattr(bars, name) for name in ("width_s", "starts_at_ms", "open", "high", "low", "close")}
    bar_columns |= {"volume": bars.volume, "quotes": bars.quotes.astype(np.int32), "is_final": bars.is_final}
    stored_bars = upsert(cursor, "bar", _BAR_KEY, {"series_id": ids[bars.slot]} | bar_columns)
    trend_columns = {
        name: getattr(trends, name) for name in ("at_ms", "level", "slope_per_s", "slope_se", "volatility")
    }
    regimes = np.array(REGIMES, np.bytes_)[trends.regime]
    stored_trends = upsert(
        cursor, "trend", _TREND_KEY, {"series_id": ids[trends.slot]} | trend_columns | {"regime": regimes}
    )
    anomalies = _anomalies(found.anomalies, found.series)
    execute_values(cursor, _ANOMALIES, anomalies)
    late = zip(
        ids[found.late.slot].tolist(),
        map(_utc, found.late.bucket_at_ms.tolist()),
        found.late.readings.tolist(),
        strict=True,
    )
    execute_values(cursor, _LATE, [(*row, query_id) for row in late])
    return Analysed(
        int(found.counts.readings.sum()),
        int(found.late.readings.sum()),
        int(found.counts.left_out.sum()),
        stored_bars,
        stored_trends,
        len(anomalies),
    )


def _anomalies(rows: AnomalyRows, series: SeriesRows) -> list[tuple[Any, ...]]:
    columns = (series.group_id, series.node_id, series.device_id, series.metric)
    names = zip(*(column[rows.slot].tolist() for column in columns), strict=True)
    ended = (_utc(ms) if ms >= 0 else None for ms in rows.ended_at_ms.tolist())
    began, peaked = map(_utc, rows.started_at_ms.tolist()), map(_utc, rows.peak_at_ms.tolist())
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


def _utc(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
