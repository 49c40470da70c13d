from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.datatypes import INTEGERS, DataType
from contract.plain import PLAIN, encode_plain
from contract.records import DEAD_LETTER_TOPIC, RecordHeaders
from contract.sparkplug import Metric, Quality, with_seq
from stream.ingest import columns, layout
from stream.ingest.columns import Readings, SeriesName, decode_columns
from stream.ingest.decode import KafkaRecord, Limits, decode_record, payload_rows
from stream.ingest.rows import DeadLetter, NumericReading, Record, TextReading

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.ingest.decode import Source
    from stream.ingest.rows import Row

NOW = 1_700_000_000_000
DAY = 86_400_000
LIMITS = Limits(366 * 86_400_000, 3_600_000)
FIELDS = ("series_no", "sampled_at_ms", "received_at_ms", "is_historical", "quality", "value")


def test_readings_become_columns_in_order_and_survive_the_bytes(payload_record: Callable[..., Any]) -> None:
    bad = Metric("b", DataType.INT16, None, NOW + 1, quality=Quality.BAD)
    records = [
        payload_record({"a": 1.0, "state": "an", "b": 2.0}, offset=0),
        payload_record({"a": 3.0}, offset=1, metrics=[bad], historical=True, received_at_ms=NOW + 5),
    ]
    readings, others = decode_columns(records, LIMITS, DEAD_LETTER_TOPIC)
    assert [type(row) for row in others] == [Record, TextReading, Record]
    for found in (readings, Readings.from_bytes(readings.to_bytes())):
        assert found.series == (SeriesName("g", "n", "d", "a"), SeriesName("g", "n", "d", "b"))
        assert found.datatypes.tolist() == [10, 2]
        assert found.series_no.tolist() == [0, 1, 1, 0]
        assert found.sampled_at_ms.tolist() == [NOW, NOW, NOW + 1, NOW]
        assert found.received_at_ms.tolist() == [NOW, NOW, NOW + 5, NOW + 5]
        assert found.is_historical.tolist() == [False, False, False, True]
        assert found.quality.tolist() == [192, 192, 0, 192]
        assert [None if math.isnan(value) else value for value in found.value.tolist()] == [1.0, 2.0, None, 3.0]


def test_no_readings_are_columns_too(payload_record: Callable[..., Any]) -> None:
    readings, others = decode_columns([payload_record(offset=3)], LIMITS, DEAD_LETTER_TOPIC)
    again = Readings.from_bytes(readings.to_bytes())
    assert again.series == ()
    assert len(others) == 1
    for name in FIELDS:
        assert getattr(again, name).dtype == getattr(readings, name).dtype
        assert np.array_equal(getattr(again, name), np.array([]))


# Numbers as they stand on the wire: about where a type ends, or a varint takes another byte, or wraps.
edges = [0, 1, 2, 127, 128, 200, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 56, 2**32 - 1]
beyond = [2**32, 2**32 + 5, 2**56 - 1, 2**56, 2**63 - 1, 2**63, 2**64 - 56, 2**64 - 1]
numbers = st.sampled_from(edges) | st.sampled_from([*edges, *beyond]) | st.integers(0, 2**64 - 1)
times = st.sampled_from([*[0] * 6, 1, -366 * DAY, -366 * DAY - 1, 3_600_000, 3_600_001, -NOW, 2**60])
floats = st.sampled_from([0.5, -1.0, 1e30, 0.0, -0.0, 2.5, math.inf, math.nan])
rarely = st.sampled_from([*[False] * 14, True])
TAGS = {DataType.FLOAT: 0x65, DataType.DOUBLE: 0x69, DataType.BOOLEAN: 0x70}
DATATYPES = [*sorted(PLAIN), DataType.DATETIME]


def varint(number: int, more: int = 0) -> bytes:
    """As protobuf writes it; `more` bytes longer than it need be."""
    parts = [number >> shift & 0x7F for shift in range(0, max(1, number.bit_length()), 7)] + [0] * more
    return bytes([*(part | 0x80 for part in parts[:-1]), parts[-1]])


@st.composite
def numbers_of(draw: st.DrawFn, datatype: int) -> int:
    """A number as it stands on the wire for an integer of this type; now and then any."""
    width = INTEGERS.get(DataType(datatype)) if datatype < 35 else None
    if width is None or draw(rarely):
        return draw(numbers)
    value = draw(st.sampled_from([width.low, width.low + 1, 0, 1, 100, 127, width.high - 1, width.high]))
    return value % (1 << draw(st.sampled_from([width.bits, max(width.bits, 32)])))


@st.composite
def wire_fields(draw: st.DrawFn) -> list[bytes]:
    """The fields of a metric in their order: of a plain one, or nearly so."""
    datatype = draw(st.sampled_from([*DATATYPES, *DATATYPES, *DATATYPES, 12, 18, 200]))
    odd = ["ä", "bdSeq", "Headwater/Gap", "Node Control/x", "x\0", "n" * 127, "n" * 128, "n" * 200]
    name = draw(
        st.sampled_from(["a", "b", "ab", "ababababab", "ababababac"]) if not draw(rarely) else st.sampled_from(odd)
    )
    tag = TAGS.get(DataType(datatype) if datatype < 35 else DataType.TEXT, draw(st.sampled_from([0x50, 0x58])))
    if draw(rarely):
        tag = draw(st.sampled_from([0x50, 0x58, 0x65, 0x69, 0x70, 0x7A, 0x38]))
    value = {
        0x65: struct.pack("<f", draw(floats)),
        0x69: struct.pack("<d", draw(floats)),
        0x70: varint(draw(st.sampled_from([0, 1, 1, 2, 2**40]))),
        0x7A: b"\2an",
    }.get(tag, varint(draw(numbers_of(datatype)), draw(st.sampled_from([0, 0, 0, 0, 1, 7]))))
    fields = [b"\x0a" + varint(len(name.encode())) + name.encode()]
    fields += [b"\x10" + varint(draw(numbers))] if draw(rarely) else []
    fields += [b"\x18" + varint(NOW + draw(times))] if not draw(rarely) else []
    fields += [b"\x20" + varint(datatype)]
    fields += [b"\x28" + varint(draw(st.sampled_from([0, 1, 1, 2])))] if draw(st.booleans()) else []
    fields += [b"\x4a\x0f\x0a\x07Quality\x12\x04\x08\x03\x18\x00"] if draw(rarely) else []
    return [*fields, bytes([tag]) + value]


@st.composite
def metrics(draw: st.DrawFn) -> bytes:
    """A metric as a field of its payload: its own fields in order, or one of them moved, left out or there twice."""
    fields = draw(wire_fields())
    at = draw(st.integers(0, len(fields) - 1))
    match draw(st.sampled_from([*[""] * 15, "move", "drop", "twice", "second", "junk", "size"])):
        case "move":
            fields.append(fields.pop(at))
        case "drop":
            del fields[at]
        case "twice":
            fields.insert(at, fields[at])
        case "second":
            fields.append(draw(wire_fields())[-1])
        case "junk":
            fields.insert(at, draw(st.binary(min_size=1, max_size=3)))
        case "size":
            whole = b"".join(fields)
            return b"\x12" + varint(max(0, len(whole) + draw(st.integers(-2, 2)))) + whole
    whole = b"".join(fields)
    return b"\x12" + varint(len(whole), draw(st.sampled_from([*[0] * 9, 1]))) + whole


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Few metrics: one that is set aside has its whole payload read exactly, and hides what others come to."""
    fields = draw(st.lists(metrics(), min_size=1, max_size=2))
    fields += [b"\x08" + varint(draw(st.sampled_from([0, NOW, 2**60])))] if draw(st.booleans()) else []
    fields += [b"\x18" + varint(draw(st.integers(0, 255)))] if draw(st.booleans()) else []
    fields += [draw(st.binary(max_size=3))] if draw(rarely) else []
    data = b"".join(draw(st.permutations(fields)))
    return data[: draw(st.integers(0, len(data)))] if draw(rarely) else data


@st.composite
def kafka_records(draw: st.DrawFn) -> KafkaRecord:
    kind = draw(st.sampled_from(["NBIRTH", "NDEATH", "NDATA", *["DDATA"] * 9]))
    topic = f"spBv1.0/g/{kind}/{draw(st.sampled_from('mn'))}{'/d' if kind[0] == 'D' else ''}"
    headers = RecordHeaders(topic, draw(st.sampled_from([*[NOW] * 9, NOW + 1, 0]))).to_kafka()
    value = draw(st.one_of(*[payloads()] * 9, st.binary(max_size=20), st.none()))
    return KafkaRecord(draw(st.sampled_from([*["p"] * 9, DEAD_LETTER_TOPIC])), 0, 1, tuple(headers), value)


def readings_of(found: Readings) -> list[tuple[Any, ...]]:
    columns = (getattr(found, name).tolist() for name in FIELDS[1:])
    return [
        (found.series[no], *times_and_value) for no, *times_and_value in zip(found.series_no, *columns, strict=True)
    ]


# `fewest`: how many payloads it takes for them to be read side by side.
@settings(max_examples=1000, deadline=None)
@given(st.lists(kafka_records(), max_size=6), st.sampled_from([1, 1, 3, layout.FEWEST_AT_ONCE]))
def test_columns_are_the_rows_that_the_decoder_of_one_record_gives(records: list[KafkaRecord], fewest: int) -> None:
    with mock.patch.object(layout, "FEWEST_AT_ONCE", fewest):
        readings, others = decode_columns(records, LIMITS, DEAD_LETTER_TOPIC)
    rows = [decode_record(record, LIMITS) for record in records]
    assert others == [row for of_record in rows for row in of_record if not isinstance(row, NumericReading)]
    expected = [
        (SeriesName(*row[:4]), row.sampled_at_ms, opening.received_at_ms, *row[6:8], row.value)
        for opening, *of_record in rows
        for row in of_record
        if isinstance(row, NumericReading) and isinstance(opening, Record)
    ]
    assert repr(readings_of(readings)) == repr(
        [(*row[:-1], math.nan if row[-1] is None else row[-1]) for row in expected]
    )
    assert set(readings.series) == {row[0] for row in expected}
    last = {SeriesName(*row[:4]): row.datatype for found in rows for row in found if isinstance(row, NumericReading)}
    assert dict(zip(readings.series, readings.datatypes.tolist(), strict=True)) == last


def test_plain_metrics_need_no_exact_decoder(
    payload_record: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a plain payload was read exactly")

    monkeypatch.setattr(columns, "payload_rows", refuse)
    monkeypatch.setattr(columns, "metric_rows", refuse)
    plain = [(f"m{datatype}", datatype, 1, NOW + datatype) for datatype in sorted(PLAIN)]
    record = payload_record(payload=with_seq(encode_plain(NOW, plain), 255))
    readings, others = decode_columns([record, payload_record({"a": -0.5}, historical=True)], LIMITS)
    assert [row for row in others if not isinstance(row, Record)] == []
    assert readings.sampled_at_ms.tolist() == [*(at_ms for *_, at_ms in plain), NOW]
    assert readings.value.tolist() == [1.0] * len(plain) + [-0.5]


@pytest.mark.parametrize(
    "names", [["ab", "a"], ["a", "ab"], ["unit1/flow", "unit1/flox"], ["n" * 16, "n" * 15 + "m"], ["b", "a", "b"]]
)
def test_names_at_the_same_place_are_told_apart_by_every_byte(
    payload_record: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    monkeypatch.setattr(layout, "FEWEST_AT_ONCE", 1)
    readings, _ = decode_columns([payload_record({name: 1.0}, offset=n) for n, name in enumerate(names)], LIMITS)
    assert [readings.series[no].metric for no in readings.series_no.tolist()] == names


def test_a_fault_in_the_decoder_costs_the_record_that_finds_it(
    payload_record: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(record: KafkaRecord, source: Source, limits: Limits) -> list[Row]:
        if record.offset == 1:
            raise RuntimeError("a bug")
        return payload_rows(record, source, limits)

    monkeypatch.setattr(columns, "payload_rows", rows)
    records = [payload_record({"a": 1.0, "state": "x", "nan": math.nan}, offset=n) for n in range(3)]
    readings, others = decode_columns(records, LIMITS)
    assert readings.value.tolist() == [1.0, 1.0]
    assert [(row.kafka_offset, row.reason) for row in others if isinstance(row, DeadLetter) and row.item == -1] == [
        (1, "a fault in the decoder: RuntimeError('a bug')")
    ]
    assert [row.kafka_offset for row in others if isinstance(row, Record)] == [0, 1, 2]
    assert len([row for row in others if isinstance(row, TextReading)]) == 2


def test_a_fault_in_the_plain_path_costs_nothing_but_time(
    payload_record: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [payload_record({"a": 1.0, "b": 2.0, "state": "x"}, offset=n) for n in range(3)]
    expected, rows = decode_columns(records, LIMITS)
    monkeypatch.setattr(columns, "read_plain", lambda *_: 1 / 0)
    readings, others = decode_columns(records, LIMITS)
    assert others == rows
    assert readings_of(readings) == readings_of(expected)


def test_parts_become_one_with_each_series_once(payload_record: Callable[..., Any]) -> None:
    records = [
        payload_record({"a": 1.0, "b": 2.0}),
        payload_record(metrics=[Metric("b", DataType.INT32, 3, NOW)]),
        payload_record({"c": 4.0, "a": 5.0}),
    ]
    together, _ = decode_columns(records, LIMITS)
    parts = [decode_columns([record], LIMITS)[0] for record in records]
    found = Readings.concatenated(parts)
    assert (found.series, found.datatypes.tolist()) == (together.series, together.datatypes.tolist())
    assert readings_of(found) == readings_of(together)
    assert Readings.concatenated([]).series == ()
