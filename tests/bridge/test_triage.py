from __future__ import annotations

import re
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.packets import PUBLISH, Publish
from bridge.stamp import Stamp, read_stamp
from bridge.triage import DEAD_LETTER_BYTES, Letter, _route, refused, triage
from contract import sparkplug_b_pb2 as pb
from contract.compression import COMPRESSED
from contract.delivery import BatchId, BatchStamp
from contract.errors import HeaderError
from contract.topics import MessageType

LIMIT = 100_000
STAMP = BatchStamp(BatchId(7, 3), 2)
READ = Stamp(7, 3, 2)


def judged(
    topic: str, payload: bytes = b"x", properties: list[tuple[str, str]] | None = None, limit: int = LIMIT
) -> Letter | None:
    name, packed = topic.encode(), b"".join(user_property(*pair) for pair in properties or ())
    message = Publish(PUBLISH | 2, name, 1, packed, payload, len(name + packed + payload))
    return triage(message, 1_700_000_000_000, limit)


def user_property(*pair: str) -> bytes:
    return b"\x26" + b"".join(len(text.encode()).to_bytes(2) + text.encode() for text in pair)


def reason(letter: Letter | None) -> str:
    assert letter is not None
    assert letter.is_dead
    assert letter.reason is not None
    assert letter.headers.reason == letter.reason
    return letter.reason


def test_data_becomes_a_record_with_its_bytes_key_and_stamp() -> None:
    letter = judged("spBv1.0/g/DDATA/n/d", b"\x00\xffbytes", STAMP.to_properties())
    assert letter is not None
    assert not letter.is_dead
    assert (letter.key, letter.value, letter.node) == (b"g/n", b"\x00\xffbytes", ("g", "n"))
    assert (letter.stamp, letter.headers.batch, letter.headers.oldest) == (READ, STAMP.batch, STAMP.oldest)
    assert letter.headers.topic == "spBv1.0/g/DDATA/n/d"
    assert letter.headers.received_at_ms == 1_700_000_000_000


@pytest.mark.parametrize("topic", ["NBIRTH/n", "NDEATH/n", "NDATA/n", "DBIRTH/n/d", "DDEATH/n/d", "DDATA/n/d"])
def test_every_upstream_type_passes(topic: str) -> None:
    letter = judged(f"spBv1.0/g/{topic}")
    assert letter is not None
    assert not letter.is_dead
    assert letter.message_type == topic.split("/", maxsplit=1)[0]


@pytest.mark.parametrize("topic", ["g/NCMD/n", "g/DCMD/n/d", "g/NCMD/n/too/long", "STATE/host"])
def test_what_goes_down_is_none_of_our_business(topic: str) -> None:
    assert judged(f"spBv1.0/{topic}") is None


@pytest.mark.parametrize(
    "topic", ["g/DDATA/n", "g/NDATA/n/d", "g/XDATA/n", "g", "g/NDATA//", "g/DDATA/n/d/e", "g/NDATA/a\x01b"]
)
def test_a_topic_that_is_not_sparkplug_is_a_dead_letter_with_its_topic_as_key(topic: str) -> None:
    letter = judged(f"spBv1.0/{topic}")
    assert reason(letter)
    assert letter is not None
    assert letter.key == f"spBv1.0/{topic}".encode()
    assert letter.headers.topic == f"spBv1.0/{topic}"


def test_a_payload_above_the_limit_is_cut_and_its_stamp_kept() -> None:
    letter = judged("spBv1.0/g/DDATA/n/d", b"y" * (LIMIT + 1), STAMP.to_properties())
    assert reason(letter) == f"payload of {LIMIT + 1} bytes: allowed are at most {LIMIT}"
    assert letter is not None
    assert letter.value == b"y" * DEAD_LETTER_BYTES
    assert letter.stamp == READ


def test_data_without_a_payload_is_a_dead_letter_and_a_birth_is_not() -> None:
    assert "without a payload" in reason(judged("spBv1.0/g/NDATA/n", b""))
    birth = judged("spBv1.0/g/NBIRTH/n", b"")
    assert birth is not None
    assert not birth.is_dead


def test_half_a_stamp_is_a_dead_letter_without_a_batch() -> None:
    letter = judged("spBv1.0/g/DDATA/n/d", b"x", STAMP.to_properties()[:2])
    assert "hw-oldest" in reason(letter)
    assert letter is not None
    assert letter.stamp is None
    assert letter.headers.batch is None


NUMBERS = st.integers(0, 2**64) | st.sampled_from([10**17, 10**18 - 1, 10**18, 2**63 - 1, 2**63])
VALUES = NUMBERS.map(str) | st.sampled_from(["007", "", "+1", "\u0661"])


@given(
    st.lists(VALUES, min_size=3, max_size=3),
    st.just([0, 1, 2]) | st.permutations([0, 1, 2]),
    st.sampled_from([3, 3, 3, 2, 1, 0]),
    st.sampled_from([[], [("colour", "blue")]]),
)
def test_a_stamp_is_read_as_the_contract_reads_it(
    values: list[str], order: list[int], count: int, others: list[tuple[str, str]]
) -> None:
    pairs = [*zip(("hw-epoch", "hw-batch", "hw-oldest"), values, strict=True)]
    given_pairs = [pairs[place] for place in order][:count] + others
    packed = b"".join(user_property(*pair) for pair in given_pairs)
    try:
        expected = BatchStamp.from_properties(given_pairs)
    except HeaderError as exc:
        with pytest.raises(HeaderError, match=re.escape(str(exc))):
            read_stamp(packed)
        return
    found = read_stamp(packed)
    assert found == (expected and (expected.batch.epoch, expected.batch.batch_no, expected.oldest))


def test_lengths_that_lie_make_no_stamp() -> None:
    packed = b"".join(user_property(*pair) for pair in STAMP.to_properties())
    assert read_stamp(packed) == READ
    for name in (b"hw-epoch\0", b"hw-batch\0", b"hw-oldest\0"):
        assert read_stamp(packed.replace(name + b"\1", name + b"\2")) != READ


def test_a_payload_that_holds_a_thousand_times_as_much_is_set_aside() -> None:
    for size, is_dead in ((60_000, False), (2_000_000, True)):
        inner = pb.Payload(body=bytes(size)).SerializeToString()
        packed = pb.Payload(uuid=COMPRESSED, body=zlib.compress(inner)).SerializeToString()
        assert len(packed) < size / 500
        letter = judged("spBv1.0/g/NDATA/n", packed, limit=4_000_000)
        assert letter is not None
        assert letter.is_dead is is_dead
        assert letter.value == (packed if is_dead else inner)
    assert "at most 100 times as much" in reason(letter)


def test_data_of_others_needs_no_stamp() -> None:
    letter = judged("spBv1.0/g/DDATA/n/d", b"x", [("colour", "blue")])
    assert letter is not None
    assert not letter.is_dead
    assert letter.stamp is None


def test_a_record_that_kafka_refused_becomes_a_dead_letter_and_then_one_without_payload() -> None:
    letter = judged("spBv1.0/g/DDATA/n/d", b"z" * 90_000, STAMP.to_properties())
    assert letter is not None
    dead = refused(letter, "too large")
    assert reason(dead) == "Kafka refused 90000 bytes: too large"
    assert dead.value == b"z" * DEAD_LETTER_BYTES
    assert (dead.stamp, dead.key, dead.node, dead.message_type) == (READ, b"g/n", ("g", "n"), MessageType.DDATA)
    empty = refused(dead, "too large still")
    assert empty.value == b""
    assert "too large still" in reason(empty)


@given(
    st.lists(
        st.sampled_from(["spBv1.0", "g", "NDATA", "DDATA", "NCMD", "STATE", "", "é", "\x00", "x" * 200]), max_size=6
    ),
    st.binary(max_size=50),
    st.lists(st.tuples(st.sampled_from(["hw-epoch", "hw-batch", "hw-oldest"]), st.text(max_size=20)), max_size=4),
)
def test_anything_at_all_is_sorted_into_record_dead_letter_or_nothing(
    levels: list[str], payload: bytes, properties: list[tuple[str, str]]
) -> None:
    letter = judged("/".join(levels), payload, properties)
    if letter is not None:
        assert letter.value == payload
        assert letter.headers.to_kafka()


def test_a_topic_of_any_length_is_a_small_dead_letter() -> None:
    topic = "spBv1.0/g/DDATA/n/" + "d" * 65_000
    letter = judged(topic, properties=STAMP.to_properties())
    assert "more than 512 characters" in reason(letter)
    assert letter is not None
    assert len(letter.key) + len(letter.headers.topic) < 2000
    longest = "/".join(["spBv1.0", "g" * 128, "DDATA", "n" * 128, "d" * 128])
    found = judged(longest)
    assert found is not None
    assert not found.is_dead


def test_what_senders_choose_is_not_remembered_in_full() -> None:
    _route.cache_clear()
    tracemalloc.start()
    try:
        for number in range(200):
            judged(f"spBv1.0/g/DDATA/n/{number}" + "d" * 65_000)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
