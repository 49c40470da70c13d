# ruff: noqa: FBT003 - rows are compared whole
from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.datatypes import DataType
from contract.delivery import Gap
from contract.records import DEAD_LETTER_TOPIC, PAYLOAD_TOPIC, RecordHeaders
from contract.sparkplug import BD_SEQ, REBIRTH, Metric, Payload, Quality, encode
from contract.sparkplug_b_pb2 import Payload as WirePayload
from stream.ingest.decode import MAX_REJECTED_PER_PAYLOAD, KafkaRecord, Limits, decode_record
from stream.ingest.rows import (
    SCHEMA,
    DeadLetter,
    GapDeclared,
    NumericReading,
    NumericSeries,
    Presence,
    Record,
    TextReading,
    TextSeries,
    to_batches,
)

if TYPE_CHECKING:
    from stream.ingest.rows import Row

NOW = 1_700_000_000_000
DAY = 86_400_000
LIMITS = Limits(max_age_ms=366 * DAY, max_future_ms=3_600_000)


def record(value: bytes | None, topic: str = "spBv1.0/g/DDATA/n/d", **headers: str) -> KafkaRecord:
    found = {"topic": topic, "received_at": str(NOW)} | headers
    return KafkaRecord(PAYLOAD_TOPIC, 3, 42, tuple((key, text.encode()) for key, text in found.items()), value)


def data(*metrics: Metric, topic: str = "spBv1.0/g/DDATA/n/d") -> list[Row]:
    opening, *rows = decode_record(record(encode(Payload(NOW, metrics, seq=0)), topic), LIMITS)
    assert opening == Record(PAYLOAD_TOPIC, 3, 42, "g", "n", NOW)
    return rows


def only_reason(rows: list[Row]) -> str:
    (letter,) = rows
    assert isinstance(letter, DeadLetter)
    return letter.reason


def metric(value: float | str | None = 1.5, datatype: DataType = DataType.DOUBLE, **changes: object) -> Metric:
    return replace(Metric("m", datatype, value, NOW - 1000), **changes)


@pytest.mark.parametrize(
    ("datatype", "value", "stored"),
    [
        (DataType.DOUBLE, 0.1, 0.1),
        (DataType.FLOAT, 0.5, 0.5),
        (DataType.INT8, -3, -3.0),
        (DataType.UINT64, 2**64 - 1, 2.0**64),
        (DataType.INT64, 2**53 + 1, 2.0**53),
        (DataType.BOOLEAN, True, 1.0),
        (DataType.DATETIME, 1_500, 1.5),
    ],
)
def test_numbers_become_float64(datatype: DataType, value: float, stored: float) -> None:
    (row,) = data(metric(value, datatype, is_historical=True))
    assert row == NumericReading("g", "n", "d", "m", datatype, NOW - 1000, True, 192, stored)
    assert type(row.value) is float


def test_texts_are_texts() -> None:
    assert data(metric("an", DataType.STRING)) == [
        TextReading("g", "n", "d", "m", DataType.STRING, NOW - 1000, False, 192, "an")
    ]


def test_a_bad_point_is_a_null_of_its_kind() -> None:
    bad = metric(None, quality=Quality.BAD)
    assert [row.quality for row in data(bad) if isinstance(row, NumericReading) and row.value is None] == [0]
    text = replace(bad, datatype=DataType.STRING)
    assert [row.quality for row in data(text) if isinstance(row, TextReading) and row.text is None] == [0]


def test_node_data_belong_to_the_empty_device_and_what_is_no_measurement_is_left_out() -> None:
    rows = data(metric(), metric(name=BD_SEQ), metric(name=REBIRTH), topic="spBv1.0/g/NDATA/n")
    assert [(row.device_id, row.metric) for row in rows if isinstance(row, NumericReading)] == [("", "m")]
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (metric(math.nan), "DOUBLE nan: a number must be finite"),
        (metric(-math.inf, DataType.FLOAT), "FLOAT -inf: a number must be finite"),
        (
            metric(timestamp_ms=0),
            "sampled at 1970-01-01T00:00:00.000Z, more than 366 days before it was received (2023-11-14T22:13:20.000Z)",
        ),
        (
            metric(timestamp_ms=NOW + 365 * DAY),
            "sampled at 2024-11-13T22:13:20.000Z, more than 3600 s after it was received (2023-11-14T22:13:20.000Z)",
        ),
        (metric(timestamp_ms=2**64 - 1), "sampled at 18446744073709551615 ms, more than"),
        (metric(name="x" * 257), "a metric name of 257 characters: allowed are 256"),
        (metric(name="a\0b"), "a metric name with a NUL character, which PostgreSQL cannot store"),
        (metric("a\0b", DataType.TEXT), "a text with a NUL character, which PostgreSQL cannot store"),
        (metric("ä" * 40_000, DataType.TEXT), "a text of 80000 bytes: allowed are 65536"),
        (metric(None), "null with good quality"),
        (metric(quality=-1), "quality -1: allowed are 0 to 32767"),
        (metric(quality=40_000), "quality 40000: allowed are 0 to 32767"),
        (metric((1, 2), DataType.INT8_ARRAY), "INT8_ARRAY is not stored"),
        (metric(b"x", DataType.BYTES), "BYTES is not stored"),
        (metric(name="Headwater/Gap"), "Headwater/Gap 1.5 with [None, None]"),
        (Gap(NOW, NOW + 7_200_000, "r").to_metric(NOW), "a gap from 2023-11-14T22:13:20.000Z to"),
        (Gap(NOW, NOW, "a\0b").to_metric(NOW), "a reason of a gap with a NUL"),
    ],
)
def test_a_wrong_metric_is_set_aside_with_its_reason_and_the_rest_is_kept(wrong: Metric, reason: str) -> None:
    before, after, letter = data(metric(name="before"), wrong, metric(name="after"))
    assert isinstance(before, NumericReading)
    assert isinstance(after, NumericReading)
    assert isinstance(letter, DeadLetter)
    assert (letter.item, letter.mqtt_topic, letter.received_at_ms) == (1, "spBv1.0/g/DDATA/n/d", NOW)
    assert letter.reason.startswith(reason)
    assert letter.payload is not None
    assert "\0" not in str(letter.metric)


def test_what_the_codec_rejects_keeps_its_index() -> None:
    wire = WirePayload(timestamp=NOW)
    wire.metrics.add(name="good", datatype=10, double_value=1, timestamp=NOW)
    wire.metrics.add(datatype=10, double_value=1, timestamp=NOW)
    wire.metrics.add(name="unknown", datatype=99, double_value=1, timestamp=NOW)
    wire.metrics.add(name="set", datatype=16, is_null=True, timestamp=NOW)
    wire.metrics.add(name="nan", datatype=10, double_value=math.nan, timestamp=NOW)
    wire.metrics.add(name="last", datatype=10, double_value=1, timestamp=NOW)
    _, *rows = decode_record(record(wire.SerializeToString()), LIMITS)
    assert [row.metric for row in rows if isinstance(row, NumericReading)] == ["good", "last"]
    letters = [row for row in rows if isinstance(row, DeadLetter)]
    assert [(letter.item, letter.metric) for letter in letters] == [(1, ""), (2, "unknown"), (3, "set"), (4, "nan")]
    assert "no name" in letters[0].reason
    assert "unknown datatype 99" in letters[1].reason
    assert [letter.payload is not None for letter in letters] == [True, False, False, False]


def test_a_payload_of_nothing_but_faults_stays_small() -> None:
    wire = WirePayload(timestamp=NOW)
    for _ in range(5000):
        wire.metrics.add()
    letters = decode_record(record(wire.SerializeToString()), LIMITS)[1:]
    assert len(letters) == MAX_REJECTED_PER_PAYLOAD
    assert isinstance(letters[-1], DeadLetter)
    assert letters[-1].reason.endswith("(and 4900 more metrics of this payload)")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (record(b"\xff\xff"), "not a Sparkplug B payload (2 bytes)"),
        (record(None), "the record has no value"),
        (record(b"", topic="other/topic"), "topic 'other/topic': allowed is spBv1.0/"),
        (record(b"", topic="spBv1.0/g/NCMD/n"), "topic 'spBv1.0/g/NCMD/n': NCMD goes to nodes"),
        (record(b"", received_at="soon"), "record headers"),
        (record(b"", received_at="0"), "received_at 0: allowed are 1 to"),
        (record(b"", received_at="9" * 30), "received_at 9999"),
        (KafkaRecord(PAYLOAD_TOPIC, 3, 42, (), b"x"), "record headers {}: topic and received_at (ms) are needed"),
        (KafkaRecord(PAYLOAD_TOPIC, 3, 42, (("topic", None),), b"x"), "record headers {}"),
    ],
)
def test_a_wrong_record_is_set_aside_whole(wrong: KafkaRecord, reason: str) -> None:
    opening, letter = decode_record(wrong, LIMITS)
    assert isinstance(opening, Record)
    assert (opening.kafka_partition, opening.kafka_offset) == (3, 42)
    assert isinstance(letter, DeadLetter)
    assert letter.item == -1
    assert letter.reason.startswith(reason)


def test_what_the_bridge_set_aside_keeps_its_reason_and_a_bounded_payload() -> None:
    headers = RecordHeaders("no/sparkplug\0", NOW, reason="topic is not Sparkplug").to_kafka()
    dead = KafkaRecord(DEAD_LETTER_TOPIC, 0, 7, tuple(headers), b"x" * 100_000)
    opening, letter = decode_record(dead, LIMITS)
    assert opening == Record(DEAD_LETTER_TOPIC, 0, 7)
    assert letter == DeadLetter(
        DEAD_LETTER_TOPIC, 0, 7, -1, "no/sparkplug\\0", None, "topic is not Sparkplug", NOW, b"x" * 65536
    )
    assert decode_record(replace(dead, topic="other"), LIMITS, "other") == [
        Record("other", 0, 7),
        letter._replace(kafka_topic="other"),
    ]


@pytest.mark.parametrize("kafka_topic", [PAYLOAD_TOPIC, DEAD_LETTER_TOPIC])
@pytest.mark.parametrize(
    ("stamp", "told"),
    [
        ({"epoch": "7", "batch_no": "5", "oldest": "3"}, (7, 5, 3)),
        ({"epoch": "7", "batch_no": "5"}, (7, 5, None)),
        ({"epoch": "7", "batch_no": "5", "oldest": "6"}, (7, 5, None)),
        ({"epoch": "7"}, (None, None, None)),
        ({"epoch": "0", "batch_no": "5"}, (None, None, None)),
        ({"epoch": "7", "batch_no": str(2**63)}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_a_record_says_of_which_batch_it_is(
    kafka_topic: str, stamp: dict[str, str], told: tuple[int | None, ...]
) -> None:
    opening, *_ = decode_record(replace(record(b"", **stamp), topic=kafka_topic), LIMITS)
    assert opening == Record(kafka_topic, 3, 42, "g", "n", NOW, *told)


@pytest.mark.parametrize(("off_ms", "at_ms"), [(60_000, NOW - 60_000), (60_001, NOW), (-60_001, NOW)])
def test_a_birth_is_dated_by_the_node_unless_its_clock_is_wrong(off_ms: int, at_ms: int) -> None:
    _, told, *_ = data(metric(timestamp_ms=NOW - off_ms), topic="spBv1.0/g/DBIRTH/n/d")
    assert isinstance(told, NumericSeries)
    assert told.announced_at_ms == at_ms


def test_births_announce_series_and_what_they_tell_of_them_is_a_reading() -> None:
    metrics = (
        metric(7, DataType.INT64, name=BD_SEQ),
        metric(False, DataType.BOOLEAN, name=REBIRTH),
        metric(name="level", unit="m"),
        metric("x", DataType.STRING, name="state"),
        metric(None, name="not yet read"),
    )
    assert data(*metrics, topic="spBv1.0/g/NBIRTH/n") == [
        Presence(PAYLOAD_TOPIC, 3, 42, "g", "n", "", NOW, True, 7),
        NumericSeries("g", "n", "", "level", DataType.DOUBLE, "m", NOW - 1000),
        NumericReading("g", "n", "", "level", DataType.DOUBLE, NOW - 1000, False, 192, 1.5),
        TextSeries("g", "n", "", "state", DataType.STRING, None, NOW - 1000),
        TextReading("g", "n", "", "state", DataType.STRING, NOW - 1000, False, 192, "x"),
        NumericSeries("g", "n", "", "not yet read", DataType.DOUBLE, None, NOW - 1000),
    ]


def test_deaths_are_deaths() -> None:
    death = data(metric(7, DataType.INT64, name=BD_SEQ), topic="spBv1.0/g/NDEATH/n")
    assert death == [Presence(PAYLOAD_TOPIC, 3, 42, "g", "n", "", NOW, False, 7)]
    assert data(topic="spBv1.0/g/DDEATH/n/d") == [Presence(PAYLOAD_TOPIC, 3, 42, "g", "n", "d", NOW, False, None)]


def test_a_gap_is_declared() -> None:
    gap = Gap(NOW - 60_000, NOW, "agent killed")
    assert data(gap.to_metric(NOW)) == [GapDeclared("g", "n", "d", NOW, NOW - 60_000, NOW, "agent killed")]


kinds = st.sampled_from(["NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA", "NCMD", "x"])
topics = st.builds(lambda kind, device: f"spBv1.0/g/{kind}/n{device}", kinds, st.sampled_from(["", "/d", "/d/e"]))
header = st.tuples(
    st.sampled_from(["topic", "received_at", "epoch", "batch_no", "reason", "x"]), st.none() | st.binary()
)
good_headers = topics.map(lambda topic: (("topic", topic.encode()), ("received_at", str(NOW).encode())))


@st.composite
def wire_payloads(draw: st.DrawFn) -> bytes:
    """Valid protobuf with anything in it: right and wrong types, in right and wrong fields, properties too."""
    payload = WirePayload(timestamp=draw(st.sampled_from([0, NOW, 2**64 - 1])))
    for _ in range(draw(st.integers(0, 4))):
        wire = payload.metrics.add(datatype=draw(st.integers(0, 40)), is_null=draw(st.booleans()))
        wire.name = draw(st.sampled_from(["m", BD_SEQ, "Headwater/Gap", "", "a\0"]) | st.text(max_size=300))
        if draw(st.booleans()):
            wire.timestamp = draw(st.sampled_from([0, NOW, NOW + 10**12, 2**64 - 1]))
        field, values = draw(
            st.sampled_from(
                [
                    ("int_value", st.integers(0, 2**32 - 1)),
                    ("long_value", st.integers(0, 2**64 - 1)),
                    ("float_value", st.floats(width=32)),
                    ("double_value", st.floats()),
                    ("boolean_value", st.booleans()),
                    ("string_value", st.text()),
                    ("bytes_value", st.binary()),
                ]
            )
        )
        setattr(wire, field, draw(values))
        for key in draw(st.lists(st.sampled_from(["Quality", "engUnit", "from", "to"]), unique=True)):
            wire.properties.keys.append(key)
            wire.properties.values.add(
                type=draw(st.sampled_from([3, 4, 11, 12, 13])),
                **{field: draw(values)} if field != "bytes_value" else {},
            )
    return payload.SerializeToString()


@settings(deadline=None)  # Arrow loads at its first use, on a machine that does other things too
@given(
    st.sampled_from([PAYLOAD_TOPIC, DEAD_LETTER_TOPIC]),
    good_headers | st.lists(header).map(tuple),
    st.none() | st.binary() | wire_payloads(),
)
def test_any_record_gives_rows_that_fit_the_schema_and_the_database(
    topic: str, headers: tuple[tuple[str, bytes | None], ...], value: bytes | None
) -> None:
    opening, *rows = decode_record(KafkaRecord(topic, 0, 1, headers, value), LIMITS)
    assert isinstance(opening, Record)
    for batch in to_batches(row for row in (opening, *rows) if not isinstance(row, NumericReading)):
        assert batch.schema == SCHEMA
    for row in rows:
        assert "\0" not in "".join(field for field in row if isinstance(field, str))
        if isinstance(row, NumericReading):
            assert row.value is None or math.isfinite(row.value)
            assert row.value is not None or row.quality != Quality.GOOD


def test_nothing_is_later_than_a_time_that_the_database_takes_from_python() -> None:
    end = 253_402_300_799_999
    headers = RecordHeaders("spBv1.0/g/DDATA/n/d", end).to_kafka()
    metrics = (
        Metric("m", DataType.DOUBLE, 1.0, end + 1),
        Gap(end, end + 1, "a clock gone wild").to_metric(end),
    )
    rows = decode_record(KafkaRecord(PAYLOAD_TOPIC, 0, 1, tuple(headers), encode(Payload(end, metrics))), LIMITS)
    assert [type(row) for row in rows] == [Record, DeadLetter, DeadLetter]
