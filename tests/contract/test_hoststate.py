from __future__ import annotations

import json

import pytest

from contract.errors import CodecError, TopicError
from contract.hoststate import HostState, state_topic


def test_a_state_is_json_with_two_keys_and_comes_back() -> None:
    state = HostState(online=True, timestamp=1_700_000_000_000)
    assert json.loads(state.to_payload()) == {"online": True, "timestamp": 1_700_000_000_000}
    assert HostState.from_payload(state.to_payload()) == state


@pytest.mark.parametrize(
    "payload", [b"", b"OFFLINE", b"[]", b"{}", b'{"online":1,"timestamp":1}', b'{"online":true,"timestamp":true}']
)
def test_what_is_no_state_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError, match="STATE"):
        HostState.from_payload(payload)


def test_a_state_of_any_length_is_refused_unread() -> None:
    with pytest.raises(CodecError, match="allowed are 1024"):
        HostState.from_payload(b'{"online":true,"timestamp":1}' + b" " * 2000)
    with pytest.raises(CodecError, match="no JSON"):
        HostState.from_payload(b"[" * 1000)


def test_its_topic_names_the_host_and_no_other() -> None:
    assert state_topic("plant") == "spBv1.0/STATE/plant"
    with pytest.raises(TopicError):
        state_topic("a/b")
