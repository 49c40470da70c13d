from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.datatypes import DataType
from contract.sparkplug import Metric
from stream.ingest import copy
from stream.ingest.batch import NUMERIC, TEXT, Batch, SeriesKey, series_of, series_of_readings, sorted_once
from stream.ingest.rows import NumericSeries, TextReading

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

EPOCH_MS = 946_684_800_000


def tuples(encoded: bytes) -> list[list[bytes | None]]:
    """A binary COPY taken apart again."""
    assert encoded.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    at, rows = 19, []
    while (fields := struct.unpack_from(">h", encoded, at)[0]) != -1:
        at += 2
        row: list[bytes | None] = []
        for _ in range(fields):
            (length,) = struct.unpack_from(">i", encoded, at)
            at += 4
            row.append(None if length == -1 else encoded[at : at + length])
            at += max(length, 0)
        rows.append(row)
    assert at + 2 == len(encoded)
    return rows


@given(
    st.lists(
        st.tuples(
            st.integers(1, 2**31 - 1),
            st.integers(0, 2**42),
            st.none() | st.floats(allow_nan=False),
            st.integers(0, 2**15 - 1),
        )
    )
)
@settings(deadline=None)
def test_readings_survive_the_binary_format(rows: list[tuple[int, int, float | None, int]]) -> None:
    ids, times, values, quality = zip(*rows, strict=True) if rows else ((), (), (), ())
    given_values = np.array([np.nan if value is None else value for value in values], np.float64)
    encoded = copy.readings(
        np.array(ids, np.int32), np.array(times, np.int64), given_values, np.array(quality, np.int16)
    )
    expected = [
        [
            struct.pack(">i", series_id),
            struct.pack(">q", (at - EPOCH_MS) * 1000),
            None if value is None else struct.pack(">d", value),
            struct.pack(">h", how_good),
        ]
        for series_id, at, value, how_good in sorted(rows, key=lambda row: row[2] is None)
    ]
    assert tuples(encoded.getvalue()) == expected


@given(st.lists(st.tuples(st.integers(0, 2**42), st.none() | st.text())))
@settings(deadline=None)
def test_texts_survive_the_binary_format(rows: list[tuple[int, str | None]]) -> None:
    times = np.array([at for at, _ in rows], np.int64)
    ones = np.ones(len(rows), np.int32)
    encoded = copy.texts(ones, times, [text for _, text in rows], ones.astype(np.int16))
    assert [row[2] for row in tuples(encoded.getvalue())] == [
        None if text is None else text.encode() for _, text in rows
    ]


# Ids of one 16-bit half and of both.
@given(st.lists(st.tuples(st.integers(0, 3) | st.sampled_from([2**16, 2**16 + 1, 2**31 - 1]), st.integers(0, 3))))
def test_sorting_keeps_the_first_of_each_series_and_time(rows: list[tuple[int, int]]) -> None:
    ids, times = np.array([i for i, _ in rows], np.int32), np.array([t for _, t in rows], np.int64)
    expected = sorted({row: place for place, row in reversed(list(enumerate(rows)))}.items())
    assert sorted_once(ids, times).tolist() == [place for _, place in expected]


def test_series_are_told_apart_whatever_their_names_hold(
    table_of: Callable[..., pa.Table], payload_record: Callable[..., Any]
) -> None:
    names = ["a", "a\x1fb", "\x1f", "ä/b", "a"]
    for value, kind, datatype in ((1.0, NUMERIC, 10), ("one", TEXT, 12)):
        batch = Batch(
            table_of(*(payload_record({name: value}, offset=n, node=f"n{n % 2}") for n, name in enumerate(names)))
        )
        column = series_of_readings(batch.readings) if kind == NUMERIC else series_of(batch.of(TextReading), TEXT)
        assert [column.keys[place] for place in column.places] == [
            SeriesKey("g", f"n{n % 2}", "d", name, kind) for n, name in enumerate(names)
        ]
        assert len(column.keys) == 4
        assert column.datatypes == (datatype,) * 4


def test_offsets_are_those_after_the_last_record_even_of_records_without_rows(
    table_of: Callable[..., pa.Table], payload_record: Callable[..., Any]
) -> None:
    batch = Batch(table_of(payload_record({"a": 1.0}, offset=4), payload_record(offset=6), payload_record(offset=5)))
    assert batch.offsets() == {"headwater.payloads": {"0": 7}}


def test_of_several_datatypes_in_a_batch_the_last_counts(
    payload_record: Callable[..., Any], table_of: Callable[..., pa.Table]
) -> None:
    metrics = [Metric("m", datatype, 1, 1) for datatype in (DataType.INT32, DataType.INT64)]
    births = [payload_record(kind="DBIRTH", metrics=[metric], offset=n) for n, metric in enumerate(metrics)]
    column = series_of(Batch(table_of(*births)).of(NumericSeries), NUMERIC)
    assert column.datatypes == (DataType.INT64,)
