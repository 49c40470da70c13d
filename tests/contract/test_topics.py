"""Topics: parsing undoes building, and what is no Sparkplug topic says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import TopicError
from contract.topics import MessageType, Topic, parse_topic, subscription

IDENTIFIERS = st.text(
    st.characters(exclude_characters="+#/\x7f", min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=30
)
TOPICS = st.sampled_from(MessageType).flatmap(
    lambda kind: st.builds(Topic, IDENTIFIERS, st.just(kind), IDENTIFIERS, IDENTIFIERS if kind.of_device else st.none())
)


@given(TOPICS)
def test_parse_undoes_str(topic: Topic) -> None:
    assert parse_topic(str(topic)) == topic


@given(st.text(max_size=80))
def test_any_text_is_a_topic_or_raises_the_one_error(text: str) -> None:
    try:
        topic = parse_topic(text)
    except TopicError:
        return
    assert str(topic) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "allowed is spBv1.0/GROUP/TYPE/NODE"),
        ("spAv1.0/g/NDATA/n", "allowed is spBv1.0"),
        ("spBv1.0/g/NDATA", "allowed is spBv1.0"),
        ("spBv1.0/g/NDATA/n/d/e", "allowed is spBv1.0"),
        ("spBv1.0/g/LDATA/n", "allowed are NBIRTH, NDEATH"),
        ("spBv1.0/g/ndata/n", "type 'ndata'"),
        ("spBv1.0/g/DDATA/n", "needs a device"),
        ("spBv1.0/g/NDATA/n/d", "does not take a device"),
        ("spBv1.0//NDATA/n", "group ''"),
        ("spBv1.0/g/NDATA/n+", "node 'n+'"),
        ("spBv1.0/g/DDATA/n/a\nb", "device"),
        ("spBv1.0/g/NDATA/\ud800", "node"),
    ],
)
def test_what_is_no_topic_is_told_why(text: str, says: str) -> None:
    with pytest.raises(TopicError) as caught:
        parse_topic(text)
    assert says in str(caught.value)


def test_subscriptions_cover_every_node_of_a_type() -> None:
    assert subscription(MessageType.NDATA) == "spBv1.0/+/NDATA/+"
    assert subscription(MessageType.DDATA, "plant") == "spBv1.0/plant/DDATA/+/+"
