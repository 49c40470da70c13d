"""Aliases: a payload that leaves names and data types out, written out, decodes to what it would have said in full."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contract import sparkplug_b_pb2 as pb
from contract.aliases import MAX_NAME_CHARACTERS, birth_number, names_of, parse, sequence_number, write_out
from contract.datatypes import INTEGERS, DataType
from contract.errors import CodecError
from contract.sparkplug import Metric, Payload, decode, encode

LIMIT = 1_000_000
ALL = 1_000_000
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUES = {
    DataType.DOUBLE: st.floats(allow_nan=False),
    DataType.STRING: st.text(max_size=10),
    DataType.BOOLEAN: st.booleans(),
    **{
        integer: st.integers(INTEGERS[integer].low, INTEGERS[integer].high)
        for integer in (DataType.INT8, DataType.INT32, DataType.INT64, DataType.UINT64)
    },
}
METRICS = st.sampled_from(sorted(VALUES)).flatmap(
    lambda datatype: st.builds(
        Metric,
        name=NAMES,
        datatype=st.just(datatype),
        value=st.none() | VALUES[datatype],
        timestamp_ms=st.integers(0, 2**62),
    )
)
PAYLOADS = st.builds(
    Payload,
    timestamp_ms=st.integers(0, 2**62),
    metrics=st.lists(METRICS, min_size=1, max_size=6, unique_by=lambda metric: metric.name).map(tuple),
    seq=st.integers(0, 255),
)


def read(encoded: bytes) -> pb.Payload:
    message = parse(encoded)
    assert message is not None
    return message


def birth(**aliases: int) -> pb.Payload:
    return pb.Payload(metrics=[pb.Metric(name=name, alias=number, datatype=10) for name, number in aliases.items()])


def shortened(payload: Payload, aliases: list[int], left_out: list[tuple[bool, bool]]) -> tuple[pb.Payload, bytes]:
    """A birth, and DATA that relies on it: which of a metric's name and data type are left out is drawn."""
    born, data = read(encode(payload)), read(encode(payload))
    for metric, short, alias, (no_name, no_datatype) in zip(
        born.metrics, data.metrics, aliases, left_out, strict=False
    ):
        metric.alias = alias
        if no_name:
            short.ClearField("name")
            short.alias = alias
        if no_datatype:
            short.ClearField("datatype")
    return born, data.SerializeToString()


@given(
    PAYLOADS,
    st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6, unique=True),
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=6, max_size=6),
)
def test_written_out_it_decodes_to_what_it_says_in_full(
    payload: Payload, aliases: list[int], left_out: list[tuple[bool, bool]]
) -> None:
    born, data = shortened(payload, aliases, left_out)
    written = write_out(data, read(data), names_of(born, ALL), LIMIT)
    assert decode(written.encoded) == payload
    assert (written.readable, written.unknown) == (len(payload.metrics), ())


@given(PAYLOADS)
def test_what_says_all_itself_is_the_very_same_bytes(payload: Payload) -> None:
    encoded = encode(payload)
    for names in (None, names_of(birth(other=1), ALL)):
        assert write_out(encoded, read(encoded), names, LIMIT).encoded is encoded


@given(PAYLOADS, st.data())
def test_what_no_birth_told_is_named_and_the_others_are_written_out(payload: Payload, data: st.DataObject) -> None:
    count = len(payload.metrics)
    born, encoded = shortened(payload, list(range(6)), [(True, True)] * 6)
    lost = data.draw(st.sets(st.integers(0, count - 1)))
    assume(len(lost) < count)
    kept = [metric for at, metric in enumerate(born.metrics) if at not in lost]
    written = write_out(encoded, read(encoded), names_of(pb.Payload(metrics=kept), ALL), LIMIT)
    assert set(written.unknown) == {f"alias {at}" for at in lost}
    decoded = decode(written.encoded)
    assert decoded.metrics == tuple(m for at, m in enumerate(payload.metrics) if at not in lost)
    assert [item.index for item in decoded.rejected] == sorted(lost)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_a_birth_of_some_sort_and_can_be_written_out(born: bytes, data: bytes) -> None:
    first, then = parse(born), parse(data)
    names = names_of(first, ALL) if first else None
    if first:
        birth_number(first)
        sequence_number(first)
    if then:
        written = write_out(data, then, names, LIMIT)
        assert written.readable + len(written.unknown) <= len(then.metrics)
        assert parse(written.encoded) is not None


def test_an_alias_of_two_names_stands_for_neither() -> None:
    told = names_of(birth(a=1, b=1, c=2), ALL)
    assert set(told.by_alias) == {2}
    assert set(told.datatypes) == {"a", "b", "c"}


def test_names_beyond_the_bound_and_names_without_end_are_not_kept() -> None:
    assert set(names_of(birth(a=1, b=2, c=3), 2).by_alias) == {1, 2}
    assert not names_of(birth(**{"x" * (MAX_NAME_CHARACTERS + 1): 1}), ALL).by_alias
    assert names_of(birth(a=1), ALL).size_bytes > 0


def test_a_name_that_is_not_utf8_names_nothing_and_spoils_nothing() -> None:
    latin = b"\x12\x06\x0a\x02\xc3\x28\x10\x01"
    born = latin + birth(fine=2).SerializeToString()
    names = names_of(read(born), ALL)
    assert set(names.by_alias) == {2}
    data = latin + pb.Payload(metrics=[pb.Metric(alias=2, double_value=1.5)]).SerializeToString()
    written = write_out(data, read(data), names, LIMIT)
    assert [metric.name for metric in decode(written.encoded).metrics] == ["fine"]
    assert written.readable == 1


def test_few_bytes_do_not_grow_without_end() -> None:
    names = names_of(birth(**{"x" * MAX_NAME_CHARACTERS: 1}), ALL)
    data = pb.Payload(metrics=[pb.Metric(alias=1, double_value=0.0)] * 5000)
    with pytest.raises(CodecError, match="names are written out"):
        write_out(data.SerializeToString(), data, names, LIMIT)


@pytest.mark.parametrize("field", ["int_value", "long_value"])
def test_the_number_of_a_birth_is_read_from_either_field(field: str) -> None:
    payload = pb.Payload(metrics=[pb.Metric(name="other"), pb.Metric(name="bdSeq", **{field: 7})])
    assert birth_number(payload) == 7
    assert birth_number(pb.Payload(metrics=[pb.Metric(name="bdSeq", string_value="7")])) is None
    assert birth_number(birth(a=1)) is None
