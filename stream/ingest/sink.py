"""A micro-batch, or a piece of one, into TimescaleDB, exactly once: rows and ledger entry in one transaction."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from itertools import chain, starmap
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psycopg2
from psycopg2.extras import execute_values

from stream.connection import translated
from stream.ingest import copy, pending
from stream.ingest.batch import NUMERIC, TEXT, series_of, series_of_readings, sorted_once, to_numpy
from stream.ingest.continuity import store_continuity
from stream.ingest.letters import bounded, left_out, letters_of
from stream.ingest.presence import store_presence, utc
from stream.ingest.rows import (
    CameraFrame,
    DeadLetter,
    GapDeclared,
    NumericSeries,
    Record,
    TextReading,
    TextSeries,
)
from stream.ingest.series import REFUSED

if TYPE_CHECKING:
    import io
    from collections.abc import Mapping
    from uuid import UUID

    import pyarrow as pa
    from psycopg2.extensions import connection, cursor

    from stream.ingest.batch import Batch, Offsets, Percentiles
    from stream.ingest.columns import Readings
    from stream.ingest.letters import LeftOut, NodeName
    from stream.ingest.series import SeriesDictionary

logger = logging.getLogger(__name__)

_COPY_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Which micro-batch of which query; the query's id lives as long as its checkpoint."""

    query_id: UUID
    batch_id: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What a batch came to."""

    readings: int = 0
    texts: int = 0
    clips: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    records: int = 0
    last_reason: str | None = None
    latency: Percentiles | None = None


_ENTER: Final = """
insert into ingest_batch (query_id, batch_id, offsets) values (%s, %s, %s) on conflict (query_id, batch_id) do nothing
"""
_ENTERED: Final = "select offsets from ingest_batch where (query_id, batch_id) = (%s, %s)"
# Sums: an entry that a different batch of the same number left behind keeps its counts.
_CLOSE_ENTRY: Final = """
update ingest_batch set committed_at = clock_timestamp(), offsets = %s, reading_rows = reading_rows + %s,
  text_rows = text_rows + %s, clip_rows = clip_rows + %s, duplicate_rows = duplicate_rows + %s,
  dead_letter_rows = dead_letter_rows + %s, records = records + %s, records_waiting = %s,
  latency_p50_ms = %s, latency_p99_ms = %s, latency_max_ms = %s
where (query_id, batch_id) = (%s, %s)
"""
_GAPS: Final = """
insert into gap (group_id, node_id, device_id, declared_at, from_at, to_at, reason) values %s
on conflict (group_id, node_id, device_id, from_at, to_at) where kind = 'declared' do nothing
"""
_CLIPS: Final = """
insert into camera_event
  (group_id, node_id, device_id, event_id, frame_no, frames, kind, started_at, sampled_at, jpeg) values %s
on conflict (group_id, node_id, device_id, event_id, frame_no) do nothing returning true
"""
_DEAD_LETTERS: Final = """
insert into dead_letter
  (kafka_topic, kafka_partition, kafka_offset, item, mqtt_topic, metric, reason, received_at, payload) values %s
on conflict (kafka_topic, kafka_partition, kafka_offset, item, received_at) do nothing returning reason
"""


def store(
    opened: connection, series: SeriesDictionary, key: BatchKey, batch: Batch, waiting: int | None = None
) -> Stored | None:
    """Commit a batch; None when the ledger has it already. `waiting`: the records that wait in Kafka past it, if known.

    Raises DatabaseAway when the outcome is unknown (the batch may be stored: the ledger will tell), FatalError when the
    database refused it. After either the connection is not to be used again.
    """
    with translated(opened):
        _announce(series, batch)
        numeric = _readings(batch.readings, series)
        texts = _texts(batch.of(TextReading), series)
        offsets = batch.offsets()
        with opened.cursor() as cursor:
            if not _enter(cursor, key, offsets, batch.earlier):
                opened.rollback()
                return None
            stored = _store_rows(cursor, numeric, texts, batch)
            _close_entry(cursor, key, offsets, stored, waiting)
        opened.commit()
    return stored


@dataclass(frozen=True, slots=True)
class _Rows:
    """Readings ready for COPY: each (series, time) once, in that order; `delivered` counts the repeated ones too."""

    encoded: io.BytesIO
    distinct: int
    delivered: int
    left_out: Mapping[NodeName, LeftOut]
    notes: io.BytesIO | None = None


def _announce(series: SeriesDictionary, batch: Batch) -> None:
    for row_type, kind in ((NumericSeries, NUMERIC), (TextSeries, TEXT)):
        rows = batch.of(row_type)
        if rows.num_rows:
            series.announce(rows, kind)


def _readings(readings: Readings, series: SeriesDictionary) -> _Rows | None:
    if not len(readings.value):
        return None
    column = series_of_readings(readings)
    all_ids = series.ids(column, readings.sampled_at_ms)
    places = sorted_once(all_ids, readings.sampled_at_ms)
    places = places[all_ids[places] != REFUSED]
    ids, times = all_ids[places], readings.sampled_at_ms[places]
    encoded = copy.readings(ids, times, readings.value[places], readings.quality[places])
    delivered = int((all_ids != REFUSED).sum())
    return _Rows(encoded, len(places), delivered, left_out(column, all_ids), pending.encoded(ids, times))


def _texts(rows: pa.Table, series: SeriesDictionary) -> _Rows | None:
    if not rows.num_rows:
        return None
    column, times = series_of(rows, TEXT), to_numpy(rows["sampled_at_ms"], np.int64)
    ids = series.ids(column, times)
    places = sorted_once(ids, times)
    places = places[ids[places] != REFUSED]
    texts = rows["text"].take(places).to_pylist()
    encoded = copy.texts(ids[places], times[places], texts, to_numpy(rows["quality"], np.int16)[places])
    return _Rows(encoded, len(places), int((ids != REFUSED).sum()), left_out(column, ids))


def _enter(cursor: cursor, key: BatchKey, offsets: Offsets, earlier: Offsets) -> bool:
    """Write the ledger's entry; False when it stands there already, and nothing is left to do."""
    query_id = str(key.query_id)
    cursor.execute(_ENTER, (query_id, key.batch_id, json.dumps(offsets)))
    if cursor.rowcount:
        return True
    cursor.execute(_ENTERED, (query_id, key.batch_id))
    (entered,) = cursor.fetchone() or (None,)
    if entered == offsets:
        return False
    if entered != earlier:
        # A power cut can take the newest file of Spark's checkpoint, and the batch is then planned anew, with other
        # offsets; or it came in pieces, and was broken off. Skipping would lose readings; storing cannot repeat any.
        logger.warning(
            "batch %d is in the ledger up to %s, and now ends at %s: stored again", key.batch_id, entered, offsets
        )
    return True


def _store_rows(cursor: cursor, numeric: _Rows | None, texts: _Rows | None, batch: Batch) -> Stored:
    store_presence(cursor, batch)
    store_continuity(cursor, batch)
    if numeric and numeric.notes:
        pending.note(cursor, numeric.notes)
    readings = _copy_in(cursor, "reading", numeric) if numeric else 0
    text_rows = _copy_in(cursor, "reading_text", texts) if texts else 0
    delivered = sum(rows.delivered for rows in (numeric, texts) if rows)
    clips, clips_again = _store_clips(cursor, batch.of(CameraFrame))
    gaps = [_with_times(gap, 3, 4, 5) for gap in _tuples(batch.of(GapDeclared))]
    execute_values(cursor, _GAPS, gaps)
    unknown = (letter for kind in (numeric, texts) if kind for letter in letters_of(kind.left_out, batch.of(Record)))
    letters, unkept = bounded(chain(starmap(DeadLetter, _tuples(batch.of(DeadLetter))), unknown))
    rows = [_with_times(letter, 7) for letter in letters]
    # Small pages: each letter can carry 64 KiB.
    reasons = execute_values(cursor, _DEAD_LETTERS, rows, page_size=100, fetch=True) if rows else []
    return Stored(
        readings=readings,
        texts=text_rows,
        clips=clips,
        duplicates=delivered - readings - text_rows + clips_again,
        dead_letters=len(reasons) + unkept,
        records=batch.of(Record).num_rows,
        last_reason=reasons[-1][0] if reasons else None,
        latency=batch.latency(time.time_ns() // 1_000_000),
    )


def _store_clips(cursor: cursor, rows: pa.Table) -> tuple[int, int]:
    """How many frames were stored, and how many were there before."""
    if not rows.num_rows:
        return 0, 0
    frames = [_with_times(frame, 7, 8) for frame in _tuples(rows)]
    # Small pages: each frame can carry half a megabyte.
    stored = len(execute_values(cursor, _CLIPS, frames, page_size=20, fetch=True))
    return stored, len(frames) - stored


def _copy_in(cursor: cursor, table: str, rows: _Rows) -> int:
    """Store rows, straight if none is there yet, else past those that are; how many were stored."""
    cursor.execute("savepoint before_copy")
    try:
        _copy(cursor, table, rows)
    except psycopg2.errors.UniqueViolation:
        cursor.execute("rollback to savepoint before_copy")
        return _copy_new(cursor, table, rows)
    return rows.distinct


def _copy_new(cursor: cursor, table: str, rows: _Rows) -> int:
    staged = f"staged_{table}"
    # Made once per connection: a table per batch would bloat the catalogue.
    cursor.execute(f"create temporary table if not exists {staged} (like {table}) on commit delete rows")
    _copy(cursor, staged, rows)
    cursor.execute(
        f"insert into {table} (series_id, sampled_at, value, quality) select series_id, sampled_at, value, quality "  # noqa: S608 - our own table names
        f"from {staged} order by series_id, sampled_at on conflict (series_id, sampled_at) do nothing"
    )
    return cursor.rowcount


def _copy(cursor: cursor, table: str, rows: _Rows) -> None:
    rows.encoded.seek(0)
    statement = f"copy {table} (series_id, sampled_at, value, quality) from stdin (format binary)"
    cursor.copy_expert(statement, rows.encoded, _COPY_BUFFER_BYTES)


def _close_entry(cursor: cursor, key: BatchKey, offsets: Offsets, stored: Stored, waiting: int | None) -> None:
    latency = stored.latency
    figures = (latency.p50, latency.p99, latency.longest) if latency else (None, None, None)
    counts = (stored.readings, stored.texts, stored.clips, stored.duplicates, stored.dead_letters, stored.records)
    cursor.execute(_CLOSE_ENTRY, (json.dumps(offsets), *counts, waiting, *figures, str(key.query_id), key.batch_id))


def _tuples(rows: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def _with_times(row: tuple[Any, ...], *places: int) -> tuple[Any, ...]:
    """The row with the ms at these places as times."""
    return tuple(utc(value) if place in places else value for place, value in enumerate(row))
