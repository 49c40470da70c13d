"""PUBLISH as we read it, held against paho's own reading of the same bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.packets import (
    MAX_PROPERTY_BYTES,
    PUBLISH,
    MalformedError,
    Publish,
    packet_bounds,
    pubacks,
    read_packets,
    read_publish,
    read_user_properties,
)

# What paho takes: no surrogates, no U+0000 and no U+FEFF.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=20)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=5)


def properties_of(pairs: list[tuple[str, str]], others: dict[str, object]) -> bytes:
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in others.items():
        setattr(properties, name, value)
    for pair in pairs:
        properties.UserProperty = pair
    return bytes(properties.pack())


def publish_of(topic: str, message_id: int, properties: bytes, payload: bytes, qos: int = 1) -> bytes:
    name = topic.encode()
    identifier = message_id.to_bytes(2) if qos else b""
    return len(name).to_bytes(2) + name + identifier + properties + payload


@given(
    TEXTS,
    st.integers(1, 65535),
    PAIRS,
    st.fixed_dictionaries(
        {},
        optional={
            "PayloadFormatIndicator": st.integers(0, 1),
            "MessageExpiryInterval": st.integers(0, 2**32 - 1),
            "ContentType": TEXTS,
            "ResponseTopic": TEXTS,
            "CorrelationData": st.binary(max_size=30),
            "SubscriptionIdentifier": st.integers(1, 268_435_455),
            "TopicAlias": st.integers(1, 65535),
        },
    ),
    st.binary(max_size=300),
    st.sampled_from([0, 1]),
)
def test_a_publish_is_read_as_paho_reads_it(
    topic: str,
    message_id: int,
    pairs: list[tuple[str, str]],
    others: dict[str, object],
    payload: bytes,
    qos: int,
) -> None:
    header = PUBLISH | qos << 1
    body = publish_of(topic, message_id, properties_of(pairs, others), payload, qos)
    ours, theirs = (
        read_publish(header, body, 0, len(body)),
        _packet.decode_publish(header, body, MQTTProtocolVersion.MQTTv5),
    )
    assert (ours.topic, ours.message_id, ours.payload, ours.qos) == (
        theirs.topic,
        theirs.mid,
        theirs.payload,
        theirs.qos,
    )
    assert read_user_properties(ours.properties) == getattr(theirs.properties, "UserProperty", [])


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=6), st.integers(1, 50))
def test_packets_are_found_however_they_come_in(bodies: list[bytes], piece: int) -> None:
    sent = b"".join(bytes([PUBLISH]) + length_of(len(body)) + body for body in bodies)
    unread, found = bytearray(), []
    for start in range(0, len(sent), piece):
        unread += sent[start : start + piece]
        while bounds := packet_bounds(unread, 0):
            found.append(bytes(unread[bounds[0] : bounds[1]]))
            del unread[: bounds[1]]
    assert found == bodies
    assert not unread


def length_of(size: int) -> bytes:
    digits = []
    while size > 127:
        digits.append(size & 127 | 128)
        size >>= 7
    return bytes([*digits, size])


@given(
    st.lists(st.tuples(st.sampled_from([PUBLISH, PUBLISH | 2, PUBLISH | 4, 0x90]), st.binary(max_size=200))), st.data()
)
def test_many_packets_are_read_at_once_up_to_the_first_that_is_not_whole(
    packets: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    bodies = [(h, publish_of("t", 7, b"\0", b, h & 2) if h <= PUBLISH | 2 else b) for h, b in packets]
    whole = [bytes([header]) + length_of(len(body)) + body for header, body in bodies]
    sent = b"".join(whole)
    cut = data.draw(st.integers(0, len(sent)))
    found, end = read_packets(sent[:cut])
    assert sent[:end] == b"".join(whole[: len(found)])
    assert len(found) == len(whole) or cut < end + len(whole[len(found)]), "all that is whole"
    for packet, (header, payload), (_, body) in zip(found, packets, bodies, strict=False):
        assert packet.header == header
        if isinstance(packet, Publish):
            assert (packet.payload, packet.size_bytes, packet.qos) == (payload, len(body), header >> 1 & 3)
        else:
            assert (packet.body, header) in ((body, PUBLISH | 4), (body, 0x90))


def test_a_publish_that_is_longer_than_its_packet_is_none() -> None:
    body = publish_of("t", 7, b"\0", b"")
    for short in range(len(body)):
        following = bytes([PUBLISH, 5]) + bytes(5)
        with pytest.raises(MalformedError):
            read_packets(bytes([PUBLISH | 2, short]) + body[:short] + following)


@given(st.binary(max_size=60))
def test_no_bytes_surprise_it(body: bytes) -> None:
    for header in (PUBLISH, PUBLISH | 2):
        try:
            found = read_publish(header, body, 0, len(body))
        except MalformedError:
            continue
        assert len(found.payload) < max(len(body), 1)
    assert isinstance(read_user_properties(body), list)


def test_properties_that_are_too_long_or_none_are_left_out_and_the_payload_is_kept() -> None:
    long = properties_of([("a", "x" * 1000)] * (MAX_PROPERTY_BYTES // 1000 + 1), {})
    unknown = bytes([3, 0x7F, 0, 0])
    not_utf8 = bytes([7, 0x26, 0, 1, 0xFF, 0, 1, 0x61])
    for properties in (long, unknown, not_utf8):
        body = publish_of("t", 7, properties, b"payload")
        found = read_publish(PUBLISH | 2, body, 0, len(body))
        assert (read_user_properties(found.properties), found.payload) == ([], b"payload")


def test_a_length_of_five_bytes_ends_the_connection() -> None:
    with pytest.raises(MalformedError):
        packet_bounds(bytes([PUBLISH, 0x80, 0x80, 0x80, 0x80, 1]), 0)
    with pytest.raises(MalformedError):
        read_publish(PUBLISH | 2, bytes([0, 5, 0x61]), 0, 3)


def test_pubacks_are_what_paho_would_send() -> None:
    assert pubacks([1, 258]) == b"\x40\x02\x00\x01\x40\x02\x01\x02"
    assert pubacks([]) == b""
