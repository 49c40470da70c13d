"""The quick way to the wire gives the very bytes of the other."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.datatypes import INTEGERS, DataType
from contract.errors import CodecError
from contract.plain import PLAIN, PlainMetric, encode_plain
from contract.sparkplug import Metric, Payload, Quality, decode, encode

TIMES = st.integers(0, 2**63 - 1)


def values_of(datatype: DataType) -> st.SearchStrategy[float]:
    match datatype:
        case DataType.FLOAT:
            return st.floats(width=32, allow_nan=False)
        case DataType.DOUBLE:
            return st.floats(allow_nan=False)
        case DataType.BOOLEAN:
            return st.booleans()
        case _:
            return st.integers(INTEGERS[datatype].low, INTEGERS[datatype].high)


METRICS = st.sampled_from(sorted(PLAIN)).flatmap(
    lambda datatype: st.tuples(st.text(min_size=1, max_size=200), st.just(datatype), values_of(datatype), TIMES)
)


@given(TIMES, st.lists(METRICS, max_size=20))
def test_the_bytes_are_those_of_encode(timestamp_ms: int, plain: list[PlainMetric]) -> None:
    whole = encode(Payload(timestamp_ms, tuple(Metric(*metric) for metric in plain)))
    assert encode_plain(timestamp_ms, plain) == whole


def test_another_payload_may_be_appended() -> None:
    bad = Metric("b", DataType.DOUBLE, None, 7, quality=Quality.BAD)
    both = encode_plain(5, [("a", DataType.DOUBLE, 1.5, 6)]) + encode(Payload(5, (bad,)))
    assert decode(both) == Payload(5, (Metric("a", DataType.DOUBLE, 1.5, 6), bad))


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        (DataType.FLOAT, 1e300),
        (DataType.UINT8, 256),
        (DataType.INT16, -40_000),
        (DataType.UINT64, -1),
        (DataType.INT32, 1.5),
        (DataType.DOUBLE, "1"),
        (DataType.DOUBLE, None),
        (DataType.BOOLEAN, 2),
        (DataType.STRING, "text"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(datatype: DataType, value: float) -> None:
    with pytest.raises(CodecError, match="'level'"):
        encode_plain(1, [("level", datatype, value, 1)])


def test_a_float_keeps_its_32_bits() -> None:
    [metric] = decode(encode_plain(1, [("x", DataType.FLOAT, math.pi, 1)])).metrics
    assert metric.value == struct.unpack("<f", struct.pack("<f", math.pi))[0]
