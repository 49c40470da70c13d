from __future__ import annotations

from bridge.presence import Presence
from contract.hoststate import HostState

NOW = 1_700_000_000_000


def test_will_and_birth_of_a_connection_have_one_time() -> None:
    presence = Presence("plant", 5)
    assert presence.will(NOW) == HostState(online=False, timestamp=NOW)
    assert presence.birth() == HostState(online=True, timestamp=NOW)
    assert presence.leave(NOW + 9) == HostState(online=False, timestamp=NOW + 9)


def test_no_word_is_older_than_the_one_before() -> None:
    presence = Presence("plant", 5)
    presence.will(NOW)
    assert presence.will(NOW - 60_000).timestamp == NOW
    assert presence.leave(NOW - 60_000).timestamp == NOW


def test_only_who_says_that_we_are_gone_is_contradicted() -> None:
    presence = Presence("plant", 5)
    presence.will(NOW)
    for payload in (HostState(online=True, timestamp=NOW + 1).to_payload(), b"", b"OFFLINE"):
        assert presence.contradict(payload) is None
    old = HostState(online=False, timestamp=NOW - 5)
    assert presence.contradict(old.to_payload()) == HostState(online=True, timestamp=NOW)
    later = HostState(online=False, timestamp=NOW + 5)
    assert presence.contradict(later.to_payload()) == HostState(online=True, timestamp=NOW + 5)
    assert presence.birth().timestamp == NOW + 5
