"""Numeric readings of many records as columns: what a worker hands on, in place of a row for each reading."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa

from contract.errors import CodecError
from contract.records import DEAD_LETTER_TOPIC
from contract.topics import MessageType
from stream.errors import RejectedError
from stream.ingest.decode import metric_rows, open_record, payload_rows
from stream.ingest.plain import Columns, Message, SeriesNumbers, read_plain
from stream.ingest.rows import WHOLE_PAYLOAD, DeadLetter, NumericReading, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.ingest.decode import KafkaRecord, Limits
    from stream.ingest.plain import Rest
    from stream.ingest.rows import Row

logger = logging.getLogger(__name__)

_DATA: Final = {MessageType.NDATA, MessageType.DDATA}


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

    @classmethod
    def concatenated(cls, parts: Sequence[Readings]) -> Readings:
        """The readings of all parts, one behind the other."""
        parts = parts or [_NO_READINGS]
        numbers: dict[SeriesName, int] = {}
        renumbered = [np.array([numbers.setdefault(n, len(numbers)) for n in p.series], np.int32) for p in parts]
        datatypes = np.zeros(len(numbers), np.int16)
        for part, places in zip(parts, renumbered, strict=True):
            datatypes[places] = part.datatypes  # the last one counts
        series_no = [places[part.series_no] for part, places in zip(parts, renumbered, strict=True)]
        others = (np.concatenate([getattr(part, name) for part in parts]) for name in _READINGS.names[1:])
        return cls(tuple(numbers), datatypes, np.concatenate(series_no), *others)


_NO_READINGS: Final = Readings(
    (), np.empty(0, np.int16), *(np.empty(0, dtype) for dtype in ("i4", "i8", "i8", "?", "i2", "f8"))
)


def decode_columns(
    records: Sequence[KafkaRecord], limits: Limits, dead_letter_topic: str = DEAD_LETTER_TOPIC
) -> tuple[Readings, list[Row]]:
    """The numeric readings of records, and the rows of every other kind, both in the records' order.

    They are those that `decode_record` gives. Total: a record that finds a fault in the decoder is set aside alone.
    """
    rows, messages, others = _opened(records, dead_letter_topic)
    numbers = SeriesNumbers()
    try:
        plain, rests = read_plain(messages, limits, numbers)
    except Exception:  # what reads plain metrics is total too; were it not, there still is what reads all
        logger.exception("%d messages found a fault in the decoder of plain metrics", len(messages))
        plain, rests = Columns.of_rows([], numbers), dict.fromkeys(range(len(messages)))
    refuted, exact = [], []
    left = [(messages[place], rest) for place, rest in rests.items()]
    for message, rest in [*left, *((other, None) for other in others)]:
        stands, found = _exactly(message, rest, limits, rows[message.record_no])
        refuted += [] if stands else [message.record_no]
        exact += [(message.record_no << 32 | at, message.source.received_at_ms, reading) for at, reading in found]
    if refuted:
        plain = plain.of(~np.isin(plain.rank >> 32, refuted))
    return _readings(plain.merged(Columns.of_rows(exact, numbers)), numbers), list(chain.from_iterable(rows))


def _opened(
    records: Sequence[KafkaRecord], dead_letter_topic: str
) -> tuple[list[list[Row]], list[Message], list[Message]]:
    """The rows of each record, and the messages whose rows are still to come: those of data, and births and deaths."""
    rows: list[list[Row]] = []
    messages: list[Message] = []
    others: list[Message] = []
    for no, record in enumerate(records):
        try:
            opening, source = open_record(record, dead_letter_topic)
            rows.append([opening])
            if isinstance(source, DeadLetter):
                rows[no].append(source)
            else:
                kind = messages if source.topic.message_type in _DATA else others
                kind.append(Message(no, record, source))
        except Exception as exc:  # noqa: BLE001 - one record that finds a fault must not stop all others
            rows[no:] = [_set_aside(record, exc)]
    return rows, messages, others


def _exactly(
    message: Message, rest: Rest | None, limits: Limits, rows: list[Row]
) -> tuple[bool, list[tuple[int, NumericReading]]]:
    """Read what is left of a message, and append to `rows` what are no numeric readings.

    Gives whether the plain ones stand that were found in it, and the numeric ones with their places.
    """
    try:
        stands, placed = _placed_rows(message, rest, limits)
    except Exception as exc:  # noqa: BLE001 - as above
        rows[:] = _set_aside(message.record, exc)
        return False, []
    rows += [row for _, row in placed if not isinstance(row, NumericReading)]
    return stands, [(place, row) for place, row in placed if isinstance(row, NumericReading)]


def _placed_rows(message: Message, rest: Rest | None, limits: Limits) -> tuple[bool, list[tuple[int, Row]]]:
    if rest is not None:
        # Dead letters are a payload's, and counted in it: where there would be any, it is read as a whole.
        with suppress(CodecError, RejectedError):
            rows = metric_rows(message.source, rest.encoded, limits)
            return True, [(place, row) for place, row in zip(rest.places, rows, strict=True) if row is not None]
    return False, list(enumerate(payload_rows(message.record, message.source, limits)))


def _set_aside(record: KafkaRecord, exc: Exception) -> list[Row]:
    at = (record.topic, record.partition, record.offset)
    logger.error("record %s/%d/%d found a fault in the decoder", *at, exc_info=exc)
    return [Record(*at), DeadLetter(*at, WHOLE_PAYLOAD, None, None, f"a fault in the decoder: {exc!r}", None, None)]


def _readings(columns: Columns, numbers: SeriesNumbers) -> Readings:
    """Without the series whose readings were all set aside."""
    last = np.full(len(numbers.of), -1, np.int64)
    last[columns.series_no] = np.arange(len(columns.series_no))  # of equal places the last one is kept
    is_used = last >= 0
    series = tuple(SeriesName._make(name) for name, used in zip(numbers.of, is_used.tolist(), strict=True) if used)
    renumbered = (np.cumsum(is_used) - 1).astype(np.int32)
    return Readings(
        series,
        columns.datatype[last[is_used]],
        renumbered[columns.series_no],
        columns.sampled_at_ms,
        columns.received_at_ms,
        columns.is_historical,
        columns.quality,
        columns.value,
    )
