"""Numeric readings of many records as columns: what a worker hands on, in place of a row for each reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa

from stream.ingest.decode import decode_record
from stream.ingest.rows import NumericReading, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from stream.ingest.decode import KafkaRecord, Limits
    from stream.ingest.rows import Row


class SeriesName(NamedTuple):
    """Whose readings; the device is empty for the node's own."""

    group_id: str
    node_id: str
    device_id: str
    metric: str


_SERIES: Final = pa.schema([*((name, pa.string()) for name in SeriesName._fields), ("datatype", pa.int16())])
_READINGS: Final = pa.schema(
    {
        "series_no": pa.int32(),
        "sampled_at_ms": pa.int64(),
        "received_at_ms": pa.int64(),
        "is_historical": pa.uint8(),
        "quality": pa.int16(),
        "value": pa.float64(),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Numeric readings in the order of their records, n of them.

    `series`: each once; `datatypes` int16 [series], as last told. `series_no` int32 [n], the place in `series`;
    `sampled_at_ms`, `received_at_ms` int64 [n]; `is_historical` bool [n]; `quality` int16 [n]; `value` float64 [n],
    NaN where it is null.
    """

    series: tuple[SeriesName, ...]
    datatypes: NDArray[np.int16]
    series_no: NDArray[np.int32]
    sampled_at_ms: NDArray[np.int64]
    received_at_ms: NDArray[np.int64]
    is_historical: NDArray[np.bool_]
    quality: NDArray[np.int16]
    value: NDArray[np.float64]

    def to_bytes(self) -> bytes:
        """Two Arrow streams, one after the other: the series, then the readings."""
        names = zip(*self.series, strict=True) if self.series else ((),) * len(SeriesName._fields)
        series = pa.record_batch([*(pa.array(name, pa.string()) for name in names), self.datatypes], schema=_SERIES)
        columns = (getattr(self, name) for name in _READINGS.names)
        readings = pa.record_batch(
            [column.view(np.uint8) if column.dtype == np.bool_ else column for column in columns], schema=_READINGS
        )
        sink = pa.BufferOutputStream()
        for batch in (series, readings):
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Readings:
        """What `to_bytes` made; the arrays are views of `data` and cannot be written to."""
        source = pa.BufferReader(data)
        (series,) = pa.ipc.open_stream(source)  # to its end, where the next begins
        (readings,) = pa.ipc.open_stream(source)
        *names, datatypes = series.columns
        columns = {name: column.to_numpy() for name, column in zip(_READINGS.names, readings.columns, strict=True)}
        columns["is_historical"] = columns["is_historical"].view(np.bool_)
        places = zip(*(column.to_pylist() for column in names), strict=True)
        return cls(tuple(map(SeriesName._make, places)), datatypes.to_numpy(), **columns)


def decode_columns(
    records: Sequence[KafkaRecord], limits: Limits, dead_letter_topic: str
) -> tuple[Readings, list[Row]]:
    """The numeric readings of records, and the rows of every other kind, both in the records' order."""
    readings: list[tuple[NumericReading, int]] = []
    others: list[Row] = []
    for record in records:
        opening, *rows = decode_record(record, limits, dead_letter_topic)
        assert isinstance(opening, Record)  # it comes first, always
        others.append(opening)
        readings += [(row, opening.received_at_ms or 0) for row in rows if isinstance(row, NumericReading)]
        others += [row for row in rows if not isinstance(row, NumericReading)]
    return _columns(readings), others


def _columns(readings: Iterable[tuple[NumericReading, int]]) -> Readings:
    places: dict[SeriesName, int] = {}
    datatypes: dict[int, int] = {}
    rows = []
    for reading, received_at_ms in readings:
        place = places.setdefault(SeriesName._make(reading[:4]), len(places))
        datatypes[place] = reading.datatype
        value = np.nan if reading.value is None else reading.value
        times = reading.sampled_at_ms, received_at_ms
        rows.append((place, *times, reading.is_historical, reading.quality, value))
    columns = zip(*rows, strict=True) if rows else ((),) * len(_READINGS)
    types = (np.int32, np.int64, np.int64, np.bool_, np.int16, np.float64)
    arrays = (np.array(column, dtype) for column, dtype in zip(columns, types, strict=True))
    return Readings(tuple(places), np.array(list(datatypes.values()), np.int16), *arrays)
