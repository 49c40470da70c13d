"""Data messages to columns of readings without an object for each metric; what is not plain is left over."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from contract.sparkplug import Payload, Quality, encode
from stream.ingest.layout import MAX_NAME_BYTES, find_metrics
from stream.ingest.metrics import latest_ms, may_be_number
from stream.ingest.wire import NOT_PLAIN, Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from stream.ingest.decode import KafkaRecord, Limits, Source
    from stream.ingest.layout import Layout
    from stream.ingest.rows import NumericReading

    Ints: TypeAlias = NDArray[np.int64]
    Bools: TypeAlias = NDArray[np.bool_]


class Message(NamedTuple):
    """A Sparkplug message: the record number `record_no` of many."""

    record_no: int
    record: KafkaRecord
    source: Source


class Rest(NamedTuple):
    """The metrics of a message that are not plain: their places in it, and a payload of their own."""

    places: list[int]
    encoded: bytes


class SeriesNumbers:
    """Numbers for the series that are met: group, node, device and metric."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, ...], int] = {}
        self._names: dict[tuple[str, str, str], _Names] = {}

    def names(self, source: Source) -> _Names:
        """The numbers of a device's metrics by the bytes of their names."""
        if source.key not in self._names:
            self._names[source.key] = _Names(source.key, self)
        return self._names[source.key]

    def number(self, series: tuple[str, ...]) -> int:
        """The number of a series, a new one if it is met for the first time."""
        return self.of.setdefault(series, len(self.of))


class _Names(dict[bytes, int]):
    """NOT_PLAIN for a name that no plain reading can have."""

    def __init__(self, key: tuple[str, str, str], numbers: SeriesNumbers) -> None:
        self._key = key
        self._numbers = numbers

    def __missing__(self, name: bytes) -> int:
        self[name] = number = self._number(name)
        return number

    def _number(self, name: bytes) -> int:
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return NOT_PLAIN
        is_plain = len(name) <= MAX_NAME_BYTES and may_be_number(text)
        return self._numbers.number((*self._key, text)) if is_plain else NOT_PLAIN


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Readings, n of them; `rank` int64 [n] is their record's number << 32, and their place in its payload.

    `series_no` int32, `datatype` int16, `sampled_at_ms` and `received_at_ms` int64, `is_historical` bool, `quality`
    int16, `value` float64, all [n].
    """

    rank: Ints
    series_no: NDArray[np.int32]
    datatype: NDArray[np.int16]
    sampled_at_ms: Ints
    received_at_ms: Ints
    is_historical: Bools
    quality: NDArray[np.int16]
    value: NDArray[np.float64]

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[int, int, NumericReading]], numbers: SeriesNumbers) -> Columns:
        """Readings with their rank and the time at which they were received."""
        found = [
            (rank, numbers.number(row[:4]), row.datatype, row.sampled_at_ms, received_at_ms, *row[-3:])
            for rank, received_at_ms, row in rows
        ]
        columns = zip(*found, strict=True) if found else ((),) * len(_DTYPES)
        arrays: list[NDArray[Any]] = [np.array(column, dtype) for column, dtype in zip(columns, _DTYPES, strict=True)]
        return cls(*arrays)

    def arrays(self) -> list[NDArray[Any]]:
        """All columns."""
        return [getattr(self, column.name) for column in fields(self)]

    def of(self, places: Bools | Ints) -> Columns:
        """Some of them."""
        return Columns(*(column[places] for column in self.arrays()))

    def merged(self, other: Columns) -> Columns:
        """Both, in order of their ranks."""
        if not len(other.rank):
            return self
        both = Columns(*map(np.concatenate, zip(self.arrays(), other.arrays(), strict=True)))
        return both.of(np.argsort(both.rank, kind="stable"))


_DTYPES = (np.int64, np.int32, np.int16, np.int64, np.int64, np.bool_, np.int16, np.float64)


def read_plain(
    messages: Sequence[Message], limits: Limits, numbers: SeriesNumbers
) -> tuple[Columns, dict[int, Rest | None]]:
    """The plain readings of data messages, and what is left of which: by its place, None where it is all of it."""
    values = [message.record.value or b"" for message in messages]
    data = b"".join(values)
    reader = Reader(data)
    names = [numbers.names(message.source) for message in messages]
    layout = find_metrics(reader, accumulate(map(len, values)), names)
    found = reader.fields(layout)
    no = layout.payload_no
    received = np.array([message.source.received_at_ms for message in messages], np.int64)
    latest = np.array([latest_ms(message.source.received_at_ms, limits) for message in messages], np.int64)
    in_time = (found.sampled_at_ms >= (received - limits.max_age_ms)[no]) & (found.sampled_at_ms <= latest[no])
    is_kept = found.is_plain & in_time
    record_no = np.array([message.record_no for message in messages], np.int64)
    columns = Columns(
        record_no[no] << 32 | layout.place,
        layout.name_no.astype(np.int32),
        found.datatype.astype(np.int16),
        found.sampled_at_ms,
        received[no],
        found.is_historical,
        np.full(len(no), Quality.GOOD, np.int16),
        found.value,
    )
    return columns if is_kept.all() else columns.of(is_kept), _rests(data, layout, is_kept)


def _rests(data: bytes, layout: Layout, is_kept: Bools) -> dict[int, Rest | None]:
    rests: dict[int, Rest | None] = dict.fromkeys(np.flatnonzero(layout.metrics == NOT_PLAIN).tolist())
    left: defaultdict[int, list[int]] = defaultdict(list)
    for metric in np.flatnonzero(~is_kept).tolist():
        left[layout.payload_no[metric]].append(metric)
    for payload, metrics in left.items():
        opening = encode(Payload(int(layout.times_ms[payload]), ()))
        own = b"".join(data[layout.begin[metric] : layout.end[metric]] for metric in metrics)
        rests[payload] = Rest(layout.place[metrics].tolist(), opening + own)
    return rests
