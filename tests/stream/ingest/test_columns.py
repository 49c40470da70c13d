from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.datatypes import WIRE_FIELDS, DataType
from contract.records import DEAD_LETTER_TOPIC, RecordHeaders
from contract.sparkplug import Metric, Quality
from contract.sparkplug_b_pb2 import Metric as WireMetric
from contract.sparkplug_b_pb2 import Payload as WirePayload
from stream.ingest.columns import Readings, SeriesName, decode_columns
from stream.ingest.decode import KafkaRecord, Limits, decode_record
from stream.ingest.rows import NumericReading, Record, TextReading

if TYPE_CHECKING:
    from collections.abc import Callable

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


kinds = st.sampled_from(["NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDATA", "DDATA", "DDATA"])
numbers = st.one_of(
    st.sampled_from(
        [0, 1, 127, 128, 200, 255, 2**15, 2**16 - 1, 2**31, 2**32 - 56, 2**32, 2**56 - 1, 2**56, 2**64 - 1]
    ),
    st.integers(0, 2**64 - 1),
    st.floats(),
)
FIELDS_OF_VALUE = ("int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value")


@st.composite
def metrics(draw: st.DrawFn) -> WireMetric:
    """Mostly plain ones, some of each thing that they may not have."""
    wire = WireMetric(datatype=draw(st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 18, 200])))
    wire.name = draw(st.sampled_from(["a", "b", "ä", "bdSeq", "Headwater/Gap", "Node Control/x", "x\0", "n" * 200, ""]))
    if draw(st.integers(0, 9)):
        wire.timestamp = NOW + draw(st.sampled_from([0, 1, -366 * DAY, -366 * DAY - 1, 3_600_000, 3_600_001, 2**63]))
    value, field = draw(numbers), draw(st.sampled_from(FIELDS_OF_VALUE))
    if draw(st.booleans()):
        field = WIRE_FIELDS.get(DataType(wire.datatype), field) if wire.datatype <= 34 else field
    with suppress(TypeError, ValueError, OverflowError):
        setattr(wire, field, str(value) if field == "string_value" else value)
    if draw(st.integers(0, 4)) == 0:
        wire.is_historical = draw(st.booleans())
    if draw(st.integers(0, 9)) == 0:
        wire.alias = draw(st.integers(0, 300))
    if draw(st.integers(0, 9)) == 0:
        wire.is_null = draw(st.booleans())
    if draw(st.integers(0, 9)) == 0:
        wire.properties.keys.append("Quality")
        wire.properties.values.add(type=3, int_value=draw(st.sampled_from([0, 192, 40_000])))
    return wire


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Valid ones, valid ones with bytes of theirs changed, moved, cut or repeated, and anything at all."""
    whole = WirePayload(metrics=draw(st.lists(metrics(), max_size=6)))
    if draw(st.booleans()):
        whole.timestamp = draw(st.sampled_from([0, NOW, 2**60]))
    if draw(st.booleans()):
        whole.seq = draw(st.integers(0, 255))
    data = bytearray(whole.SerializeToString())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b"\x80\0", b"\xff" * 9])
        )
    return bytes(data)


@st.composite
def kafka_records(draw: st.DrawFn) -> KafkaRecord:
    kind = draw(kinds)
    topic = f"spBv1.0/g/{kind}/{draw(st.sampled_from('mn'))}{'/d' if kind[0] == 'D' else ''}"
    headers = RecordHeaders(topic, draw(st.sampled_from([NOW, NOW, NOW + 1, 0]))).to_kafka()
    value = draw(payloads() | st.binary(max_size=20) | st.none())
    return KafkaRecord(draw(st.sampled_from(["p", "p", DEAD_LETTER_TOPIC])), 0, 1, tuple(headers), value)


def readings_of(found: Readings) -> list[tuple[Any, ...]]:
    columns = (getattr(found, name).tolist() for name in FIELDS[1:])
    return [
        (found.series[no], *times_and_value) for no, *times_and_value in zip(found.series_no, *columns, strict=True)
    ]


@settings(max_examples=1500, deadline=None)
@given(st.lists(kafka_records(), max_size=6))
def test_columns_are_the_rows_that_the_decoder_of_one_record_gives(records: list[KafkaRecord]) -> None:
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
