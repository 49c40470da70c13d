"""What a primary host says of itself."""

from __future__ import annotations

import json

import pytest

from contract.errors import CodecError, TopicError
from edge.uplink.host import PrimaryHost


def state(online: object, timestamp: object) -> bytes:
    return json.dumps({"online": online, "timestamp": timestamp}).encode()


def test_a_host_is_online_from_its_word_on_and_offline_by_it() -> None:
    host = PrimaryHost("scada")
    assert host.topic == "spBv1.0/STATE/scada"
    seen = []
    for online, timestamp in ((True, 10), (False, 10), (True, 11), (False, 5), (True, 12), (False, 13)):
        host.take(state(online, timestamp))
        seen.append(host.online)
    assert seen == [True, False, True, True, True, False]


def test_on_a_new_connection_the_host_says_it_again_and_its_past_still_counts() -> None:
    host = PrimaryHost("scada")
    host.take(state(online=True, timestamp=10))
    host.await_anew()
    assert not host.online
    host.take(state(online=True, timestamp=9))
    assert not host.online
    host.take(state(online=True, timestamp=10))
    assert host.online


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"ONLINE",
        b"\xff",
        b"[]",
        b"[" * 1000,
        b" " * 2000,
        b'{"online": true}',
        state("true", 1),
        state(1, 1),
        state(online=True, timestamp=True),
        state(online=True, timestamp="1"),
        state(online=True, timestamp=1.5),
    ],
)
def test_what_is_no_state_changes_nothing(payload: bytes) -> None:
    host = PrimaryHost("scada")
    host.take(state(online=True, timestamp=1))
    with pytest.raises(CodecError):
        host.take(payload)
    assert host.online


def test_an_id_that_no_topic_can_carry_is_refused() -> None:
    with pytest.raises(TopicError):
        PrimaryHost("a/b")
