"""Record batches as we write them, held against kafka-python's own reader and its own writer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.partitioner import DefaultPartitioner
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import encode_varint

from bridge.handover import SealedRecords
from bridge.producer import Lane
from bridge.records import BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, RecordBatch, packed_headers, varint
from bridge.stamp import Stamp
from bridge.triage import Letter, Route

RECORDS = st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=20_000)), min_size=1, max_size=8)
NUMBERS = st.integers(1, 2**63 - 1)
LETTERS = st.builds(
    Letter,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300).map(
        lambda topic: Route(topic, topic.encode(), b"k")
    ),
    st.just(b""),
    st.integers(0, 2**45),
    st.none() | st.builds(Stamp, NUMBERS, NUMBERS, NUMBERS),
    st.none() | st.text(max_size=50),
)


def read(batch: RecordBatch) -> DefaultRecordBatch:
    records = MemoryRecords(batch.sealed(4711, 3, 17))
    (found,) = iter(records.next_batch, None)
    assert isinstance(found, DefaultRecordBatch)
    return found


@given(st.integers(-(2**31), 2**31 - 1))
def test_numbers_are_written_as_kafka_python_writes_them(number: int) -> None:
    theirs = bytearray()
    encode_varint(number, theirs.append)
    assert varint(number) == bytes(theirs)


@given(RECORDS, st.lists(LETTERS, min_size=8, max_size=8))
def test_kafka_python_reads_what_was_put_in(records: list[tuple[bytes, bytes]], letters: list[Letter]) -> None:
    batch, most_bytes = RecordBatch(1_700_000_000_000), BATCH_OVERHEAD_BYTES
    for (key, value), letter in zip(records, letters, strict=False):
        headers = packed_headers(letter)
        batch.append(key, value, headers)
        most_bytes += len(key) + len(value) + len(headers) + RECORD_OVERHEAD_BYTES
    found = read(batch)
    assert found.validate_crc()
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (4711, 3, 17)
    expected = [
        (offset, key, value, letter.headers.to_kafka())
        for offset, ((key, value), letter) in enumerate(zip(records, letters, strict=False))
    ]
    read_back = list(found)
    assert [(r.offset, r.key, r.value, r.headers) for r in read_back] == expected
    assert {record.timestamp for record in read_back} == {1_700_000_000_000}
    assert batch.count == len(records)
    assert len(batch.sealed(1, 1, 1)) <= batch.size_bytes <= most_bytes


def test_what_lz4_makes_smaller_is_written_so_and_nothing_else() -> None:
    for value, codec in ((b"x" * 10_000, DefaultRecordBatch.CODEC_LZ4), (b"x", DefaultRecordBatch.CODEC_NONE)):
        batch = RecordBatch(1_700_000_000_000)
        batch.append(b"k", value, b"\0")
        assert read(batch).compression_type == codec


@given(st.binary(min_size=1, max_size=40), st.sets(st.integers(0, 50), min_size=1))
def test_a_key_is_in_the_partition_where_kafka_python_puts_it(key: bytes, partitions: set[int]) -> None:
    cluster = SimpleNamespace(
        topics=lambda: {"t"}, partitions_for_topic=lambda _: partitions, available_partitions_for_topic=lambda _: []
    )
    theirs = DefaultPartitioner().partition("t", key, key, b"", b"", cluster)
    assert Lane("t", partitions, 1).place(key) == TopicPartition("t", theirs)


def test_a_batch_that_is_sent_again_keeps_its_number() -> None:
    batch = RecordBatch(1_700_000_000_000)
    batch.append(b"k", b"v", b"\0")
    sealed = SealedRecords(batch)
    sealed.set_producer_state(1, 0, 5, _transactional=False)
    sealed.close()
    first = sealed.buffer()
    sealed.close()
    assert sealed.buffer() is first
    with pytest.raises(Exception, match="sealed"):
        sealed.set_producer_state(1, 0, 6, _transactional=False)
    assert (sealed.base_sequence, sealed.next_offset(), sealed.size_in_bytes()) == (5, 1, len(first))
