"""The codec: what goes in comes out, and any bytes at all either decode or raise CodecError."""

from __future__ import annotations

import contextlib
import struct

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from contract import sparkplug_b_pb2 as pb
from contract.datatypes import (
    ARRAY_ELEMENTS,
    ARRAYS,
    BLOBS,
    INTEGERS,
    TEXTS,
    WIRE_FIELDS,
    DataType,
    pack_array,
    unpack_array,
    unwrap,
    wrap,
)
from contract.errors import CodecError
from contract.sparkplug import (
    QUALITY_PROPERTY,
    UNIT_PROPERTY,
    Metric,
    Payload,
    Property,
    Quality,
    as_historical,
    decode,
    encode,
    with_seq,
)

TIMESTAMPS = st.integers(0, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOAT32 = st.floats(width=32, allow_nan=False)
FLOAT64 = st.floats(allow_nan=False)
STRUCT_INTEGERS = {"b": 8, "h": 16, "i": 32, "q": 64}


def values_of(datatype: DataType) -> st.SearchStrategy:  # noqa: PLR0911 - one case a kind of type
    if datatype in INTEGERS:
        return st.integers(INTEGERS[datatype].low, INTEGERS[datatype].high)
    if datatype in TEXTS:
        return TEXT
    if datatype in BLOBS:
        return st.binary(max_size=50)
    if datatype is DataType.STRING_ARRAY:
        return st.lists(TEXT.filter(lambda text: "\0" not in text), max_size=5).map(tuple)
    if datatype is DataType.BOOLEAN_ARRAY:
        return st.lists(st.booleans(), max_size=20).map(tuple)
    if datatype in ARRAYS:
        return st.lists(elements_of(ARRAY_ELEMENTS[datatype]), max_size=5).map(tuple)
    return {DataType.FLOAT: FLOAT32, DataType.DOUBLE: FLOAT64, DataType.BOOLEAN: st.booleans()}[datatype]


def elements_of(code: str) -> st.SearchStrategy:
    if code in "fd":
        return FLOAT32 if code == "f" else FLOAT64
    bits = STRUCT_INTEGERS[code.lower()]
    return st.integers(0, 2**bits - 1) if code.isupper() else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


DATATYPES = st.sampled_from(sorted(WIRE_FIELDS))
PROPERTIES = st.sampled_from(sorted(set(WIRE_FIELDS) - ARRAYS - BLOBS)).flatmap(
    lambda datatype: st.builds(Property, st.just(datatype), st.none() | values_of(datatype))
)
METRICS = DATATYPES.flatmap(
    lambda datatype: st.builds(
        Metric,
        name=TEXT.filter(bool),
        datatype=st.just(datatype),
        value=st.none() | values_of(datatype),
        timestamp_ms=TIMESTAMPS,
        is_historical=st.booleans(),
        quality=st.sampled_from(Quality),
        unit=st.none() | TEXT,
        properties=st.dictionaries(
            TEXT.filter(lambda key: key not in {QUALITY_PROPERTY, UNIT_PROPERTY}), PROPERTIES, max_size=3
        ),
    )
)
PAYLOADS = st.builds(
    Payload,
    timestamp_ms=TIMESTAMPS,
    metrics=st.lists(METRICS, max_size=5).map(tuple),
    seq=st.none() | st.integers(0, 255),
)


@given(PAYLOADS)
def test_decode_undoes_encode(payload: Payload) -> None:
    assert decode(encode(payload)) == payload


@given(PAYLOADS)
def test_equal_payloads_have_equal_bytes(payload: Payload) -> None:
    assert encode(decode(encode(payload))) == encode(payload)


@given(st.binary(max_size=300))
@example(b"")
def test_any_bytes_decode_or_raise_the_one_error(data: bytes) -> None:
    try:
        payload = decode(data)
    except CodecError:
        with pytest.raises(DecodeError):
            pb.Payload.FromString(data)
    else:
        assert len(payload.metrics) + len(payload.rejected) == len(pb.Payload.FromString(data).metrics)


WIRE_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXT,
        "alias": st.integers(0, 5),
        "timestamp": TIMESTAMPS,
        "datatype": st.integers(0, 40),
        "is_null": st.booleans(),
        "int_value": st.integers(0, 2**32 - 1),
        "string_value": TEXT,
        "bytes_value": st.binary(max_size=12),
        "dataset_value": st.binary(max_size=12),
    },
)


@given(st.lists(WIRE_VALUES, max_size=6))
def test_every_metric_of_a_payload_is_decoded_or_set_aside(wires: list[dict[str, object]]) -> None:
    payload = decode(pb.Payload(timestamp=1, metrics=[pb.Metric(**wire) for wire in wires]).SerializeToString())
    assert len(payload.metrics) + len(payload.rejected) == len(wires)
    assert all(rejected.reason for rejected in payload.rejected)


@given(PAYLOADS, st.binary(min_size=1, max_size=5), st.data())
def test_a_damaged_payload_decodes_or_raises_the_one_error(payload: Payload, noise: bytes, data: st.DataObject) -> None:
    encoded = encode(payload)
    at = data.draw(st.integers(0, len(encoded)))
    with contextlib.suppress(CodecError):
        decode(encoded[:at] + noise + encoded[at + len(noise) :])


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (pb.Metric(datatype=10, double_value=1.0), "no name"),
        (pb.Metric(alias=7, datatype=10, double_value=1.0), "alias 7"),
        (pb.Metric(name="x", datatype=99, double_value=1.0), "unknown datatype 99"),
        (pb.Metric(name="x", double_value=1.0), "unknown datatype 0"),
        (pb.Metric(name="x", datatype=DataType.DATASET, dataset_value=b""), "DATASET is not read"),
        (pb.Metric(name="x", datatype=DataType.TEMPLATE, template_value=b""), "TEMPLATE is not read"),
        (pb.Metric(name="x", datatype=DataType.DOUBLE, string_value="1"), "carried in string_value"),
        (pb.Metric(name="x", datatype=DataType.DOUBLE), "no value"),
        (pb.Metric(name="x", datatype=DataType.INT8, int_value=300), "allowed are -128 to 127"),
        (pb.Metric(name="x", datatype=DataType.INT32_ARRAY, bytes_value=b"123"), "whole number of elements"),
        (pb.Metric(name="x", datatype=DataType.BOOLEAN_ARRAY, bytes_value=b"\xff\xff\xff\xff"), "do not hold"),
        (pb.Metric(name="x", datatype=DataType.STRING_ARRAY, bytes_value=b"open"), "terminating NUL"),
        (pb.Metric(name="x", datatype=DataType.STRING_ARRAY, bytes_value=b"\xff\0"), "STRING_ARRAY"),
        (pb.Metric(name="x", datatype=12, string_value="a", properties=pb.PropertySet(keys=["k"])), "1 property names"),
    ],
)
def test_a_metric_that_cannot_be_read_is_set_aside_with_its_reason(wire: pb.Metric, reason: str) -> None:
    good = pb.Metric(name="good", datatype=DataType.INT8, int_value=1)
    payload = decode(pb.Payload(timestamp=5, metrics=[wire, good]).SerializeToString())
    assert [metric.name for metric in payload.metrics] == ["good"]
    assert payload.metrics[0].timestamp_ms == 5
    (rejected,) = payload.rejected
    assert rejected.index == 0
    assert reason in rejected.reason


@pytest.mark.parametrize(
    ("metric", "name", "reason"),
    [
        (b"\x0a\x02\xc3\x28\x20\x0a\x69" + bytes(8), "\ufffd(", "name is not UTF-8"),
        (b"\x0a\x01x\x20\x0c\x7a\x02\xc3\x28", "x", "STRING that is not UTF-8"),
    ],
)
def test_a_text_that_is_not_utf8_costs_its_own_metric_only(metric: bytes, name: str, reason: str) -> None:
    good = pb.Payload(metrics=[pb.Metric(name="good", datatype=DataType.INT8, int_value=1)]).SerializeToString()
    payload = decode(b"\x12" + bytes([len(metric)]) + metric + good)
    assert [metric.name for metric in payload.metrics] == ["good"]
    (rejected,) = payload.rejected
    assert rejected.name == name
    assert reason in rejected.reason


@pytest.mark.parametrize(
    "prop",
    [
        pb.PropertyValue(type=DataType.PROPERTYSET, propertyset_value=b""),
        pb.PropertyValue(type=99, int_value=1),
        pb.PropertyValue(type=DataType.DOUBLE),
    ],
)
def test_a_property_that_cannot_be_read_costs_no_value_unless_it_is_the_quality(prop: pb.PropertyValue) -> None:
    def decoded(key: str) -> Payload:
        properties = pb.PropertySet(
            keys=[key, UNIT_PROPERTY], values=[prop, pb.PropertyValue(type=12, string_value="m")]
        )
        metric = pb.Metric(name="x", datatype=DataType.DOUBLE, double_value=2.5, properties=properties)
        return decode(pb.Payload(metrics=[metric]).SerializeToString())

    (metric,) = decoded("limits").metrics
    assert (metric.value, metric.unit, metric.properties) == (2.5, "m", {})
    assert not decoded(QUALITY_PROPERTY).metrics


@pytest.mark.parametrize(
    ("value", "datatype", "wire"),
    [
        (-1, DataType.INT8, 0xFFFFFFFF),
        (-128, DataType.INT8, 0xFFFFFF80),
        (-32768, DataType.INT16, 0xFFFF8000),
        (-1, DataType.INT32, 0xFFFFFFFF),
        (-1, DataType.INT64, 0xFFFFFFFFFFFFFFFF),
        (2**32 - 1, DataType.UINT32, 0xFFFFFFFF),
        (2**64 - 1, DataType.UINT64, 0xFFFFFFFFFFFFFFFF),
    ],
)
def test_integers_wrap_round(value: int, datatype: DataType, wire: int) -> None:
    assert wrap(value, datatype) == wire
    assert unwrap(wire, datatype) == value


def test_the_narrow_spelling_of_a_negative_number_is_read() -> None:
    assert unwrap(0xFF, DataType.INT8) == -1
    assert unwrap(0x8000, DataType.INT16) == -32768


@pytest.mark.parametrize("datatype", sorted(INTEGERS))
def test_an_integer_out_of_range_is_refused(datatype: DataType) -> None:
    width = INTEGERS[datatype]
    for value in (width.low - 1, width.high + 1):
        with pytest.raises(CodecError, match="allowed are"):
            wrap(value, datatype)


def test_uint32_is_read_from_either_integer_field() -> None:
    for wire in (
        pb.Metric(name="n", datatype=DataType.UINT32, int_value=2**32 - 1),
        pb.Metric(name="n", datatype=DataType.UINT32, long_value=2**32 - 1),
    ):
        (metric,) = decode(pb.Payload(metrics=[wire]).SerializeToString()).metrics
        assert metric.value == 2**32 - 1


@pytest.mark.parametrize("value", ["text", (1, 2), 1.5, b"bytes"])
def test_a_value_of_the_wrong_kind_is_refused_by_name(value: object) -> None:
    with pytest.raises(CodecError, match="INT16"):
        encode(Payload(1, (Metric("x", DataType.INT16, value, 1),)))  # type: ignore[arg-type]  # the point of the test


def test_arrays_are_packed_little_endian() -> None:
    assert pack_array((1, -2), DataType.INT16_ARRAY) == struct.pack("<hh", 1, -2)
    # The example of Sparkplug 3.0, 6.4.17.
    booleans = (False, False, True, True, False, True, False, False, True, True, False, True)
    assert pack_array(booleans, DataType.BOOLEAN_ARRAY) == b"\x0c\x00\x00\x00\x34\xd0"
    assert unpack_array(b"ABC\0hello\0", DataType.STRING_ARRAY) == ("ABC", "hello")


@given(PAYLOADS, st.integers(0, 255))
def test_a_sequence_number_is_added_without_decoding(payload: Payload, seq: int) -> None:
    stamped = decode(with_seq(encode(payload), seq))
    assert stamped.seq == seq
    assert stamped.metrics == payload.metrics


@given(PAYLOADS)
def test_a_replayed_payload_is_marked_historical_and_otherwise_unchanged(payload: Payload) -> None:
    replayed = decode(as_historical(encode(payload)))
    assert all(metric.is_historical for metric in replayed.metrics)
    assert [(m.name, m.value, m.timestamp_ms) for m in replayed.metrics] == [
        (m.name, m.value, m.timestamp_ms) for m in payload.metrics
    ]


def test_a_payload_with_a_metric_that_cannot_be_read_is_not_replayed_without_it() -> None:
    encoded = encode(Payload(1, (Metric("good", DataType.DOUBLE, 1.0, 1), Metric("", DataType.DOUBLE, 2.0, 1))))
    replayed = decode(as_historical(encoded))
    assert [metric.is_historical for metric in replayed.metrics] == [True]
    assert [rejected.index for rejected in replayed.rejected] == [1]


def test_what_is_no_payload_cannot_be_marked_historical() -> None:
    with pytest.raises(CodecError, match="not a Sparkplug B payload"):
        as_historical(b"\x0a\xffgarbled")
