"""Stamps, marks and gaps survive the wire; half of one is an error, not a guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.delivery import BATCH_PROPERTY, EPOCH_PROPERTY, OLDEST_PROPERTY, BatchId, BatchStamp, DurableMark, Gap
from contract.errors import CodecError, HeaderError
from contract.records import RecordHeaders, record_key
from contract.sparkplug import Metric, Payload, decode, encode

NUMBERS = st.integers(1, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
STAMPS = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(lambda n: BatchStamp(BatchId(n[0], max(n[1:])), min(n[1:])))
BATCHES = st.builds(BatchId, NUMBERS, NUMBERS)


@given(STAMPS)
def test_a_stamp_survives_user_properties(stamp: BatchStamp) -> None:
    assert BatchStamp.from_properties([("other", "x"), *stamp.to_properties()]) == stamp


def test_no_stamp_is_none() -> None:
    assert BatchStamp.from_properties([("other", "x")]) is None


@pytest.mark.parametrize(
    "properties",
    [
        [(EPOCH_PROPERTY, "1")],
        [(EPOCH_PROPERTY, "1"), (BATCH_PROPERTY, "2"), (OLDEST_PROPERTY, "3")],
        [(EPOCH_PROPERTY, "1"), (BATCH_PROPERTY, "-2"), (OLDEST_PROPERTY, "1")],
        [(EPOCH_PROPERTY, "1"), (BATCH_PROPERTY, "0"), (OLDEST_PROPERTY, "0")],
        [(EPOCH_PROPERTY, "1"), (BATCH_PROPERTY, "9" * 5000), (OLDEST_PROPERTY, "1")],
        [(EPOCH_PROPERTY, "\N{SUPERSCRIPT TWO}"), (BATCH_PROPERTY, "2"), (OLDEST_PROPERTY, "1")],
    ],
)
def test_half_or_wrong_stamps_are_refused(properties: list[tuple[str, str]]) -> None:
    with pytest.raises(HeaderError):
        BatchStamp.from_properties(properties)


@given(NUMBERS, NUMBERS)
def test_a_durable_mark_survives_a_command(epoch: int, through: int) -> None:
    mark = DurableMark(epoch, through)
    assert DurableMark.from_metrics(decode(encode(mark.to_payload(5))).metrics) == mark


def test_a_command_without_a_mark_has_none_and_half_a_mark_is_refused() -> None:
    metrics = DurableMark(1, 2).to_payload(5).metrics
    assert DurableMark.from_metrics([]) is None
    with pytest.raises(CodecError):
        DurableMark.from_metrics(metrics[:1])


@given(st.tuples(NUMBERS, NUMBERS), TEXT)
def test_a_gap_survives_a_metric(bounds: tuple[int, int], reason: str) -> None:
    gap = Gap(min(bounds), max(bounds), reason)
    (metric,) = decode(encode(Payload(1, (gap.to_metric(1),)))).metrics
    assert Gap.from_metric(metric) == gap


def test_a_gap_without_bounds_or_backwards_is_refused() -> None:
    whole = Gap(1, 2, "stopped").to_metric(1)
    with pytest.raises(CodecError):
        Gap.from_metric(Metric(whole.name, whole.datatype, whole.value, 1))
    with pytest.raises(CodecError):
        Gap.from_metric(Gap(3, 2, "stopped").to_metric(1))


@given(TEXT, NUMBERS, st.none() | BATCHES, st.none() | TEXT)
def test_record_headers_survive_kafka(
    topic: str, received_at_ms: int, batch: BatchId | None, reason: str | None
) -> None:
    headers = RecordHeaders(topic, received_at_ms, batch, reason)
    assert RecordHeaders.from_kafka(headers.to_kafka()) == headers


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("topic", b"t")],
        [("topic", b"\xff"), ("received_at", b"1")],
        [("topic", b"t"), ("received_at", b"now")],
        [("topic", None), ("received_at", b"1")],
        [("topic", b"t"), ("received_at", None)],
    ],
)
def test_headers_that_cannot_be_read_are_refused(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(HeaderError):
        RecordHeaders.from_kafka(headers)


def test_the_key_keeps_a_node_together() -> None:
    assert record_key("plant", "edge-1") == b"plant/edge-1"
