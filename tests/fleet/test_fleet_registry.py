"""Who belongs to the fleet, in a file that several processes write to."""

from __future__ import annotations

import datetime as dt
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from fleet.errors import FleetError
from fleet.registry import Certificate, Registry, TokenError

LATER = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
KEYS = st.sampled_from(["key-1", "key-2"])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "registry.sqlite")
    made.make()
    return made


def certificate(serial: int, name: str, key: str = "key", *, ends_at: dt.datetime = LATER) -> Certificate:
    return Certificate(serial, name, key, "chain", ends_at)


def test_a_name_is_one_nodes_over_all_groups(registry: Registry) -> None:
    registry.add_node("pump-1", "plant")
    registry.add_node("pump-1", "plant")
    with pytest.raises(FleetError, match="unique over all groups"):
        registry.add_node("pump-1", "annex")
    with pytest.raises(FleetError, match="is a node"):
        registry.add_host("pump-1")
    registry.add_host("bridge")
    with pytest.raises(FleetError, match="is a host application"):
        registry.add_node("bridge", "plant")
    assert [node.name for node in registry.nodes()] == ["pump-1"]


def test_who_was_revoked_comes_back_in_any_group(registry: Registry) -> None:
    registry.add_node("pump-1", "plant")
    registry.put_token("pump-1", "hash", LATER)
    registry.put_certificate(certificate(2**159, "pump-1"))
    assert registry.revoke("pump-1") == 1
    assert [each.serial for each in registry.revoked()] == [2**159]
    assert registry.node("pump-1").revoked_at is not None
    assert registry.node("pump-1").certificate_ends_at is None
    with pytest.raises(FleetError, match="was revoked"):
        registry.put_certificate(certificate(3, "pump-1"))
    with pytest.raises(TokenError):
        registry.use_token("pump-1", "hash", "key")
    registry.add_node("pump-1", "annex")
    assert registry.node("pump-1").revoked_at is None
    assert registry.node("pump-1").group == "annex"


def test_a_copied_key_is_not_told_of_any_more_once_its_node_was_called_back(registry: Registry) -> None:
    registry.add_node("pump-1", "plant")
    for serial in (1, 2):
        registry.put_certificate(certificate(serial, "pump-1", f"key {serial}"))
    registry.revoke_before(2)
    assert registry.note_shown_again(1)
    registry.revoke("pump-1")
    registry.add_node("pump-1", "plant")  # a baked card may be made now, which nobody enrols by a token
    assert not registry.note_shown_again(1)
    assert registry.node("pump-1").shown_again_at is None


def test_what_has_expired_is_on_no_list(registry: Registry) -> None:
    registry.put_certificate(certificate(1, "pump-1", ends_at=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)))
    registry.put_certificate(certificate(2, "pump-1"))
    assert registry.revoke_certificates("pump-1") == 2
    assert [each.serial for each in registry.revoked()] == [2]


def test_counters_only_rise_whoever_asks(registry: Registry) -> None:
    assert registry.next_counter() == 1
    assert registry.next_counter(floor=10) == 11
    taken: list[int] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(registry.next_counter() for _ in range(5)), name=f"taker-{number}")
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(12, 32))


def test_a_registry_that_has_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="unable to open"):
        Registry(tmp_path / "none.sqlite").nodes()
    assert not (tmp_path / "none.sqlite").exists()


class Tokens(RuleBasedStateMachine):
    """A node's tokens against what they shall be: the newest alone, for an hour or two, for one key."""

    def __init__(self) -> None:
        super().__init__()
        self.hour = self.newest = self.ends = 0
        self.user: str | None = None
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("fleet.registry._now", lambda: LATER + dt.timedelta(hours=self.hour))
        self.folder = tempfile.TemporaryDirectory()
        self.registry = Registry(Path(self.folder.name) / "registry.sqlite")
        self.registry.make()
        self.registry.add_node("pump-1", "plant")

    def teardown(self) -> None:
        self.patch.undo()
        self.folder.cleanup()

    @rule(hours=st.integers(1, 2))
    def another(self, hours: int) -> None:
        self.newest, self.ends, self.user = self.newest + 1, self.hour + hours, None
        self.registry.put_token("pump-1", f"token {self.newest}", LATER + dt.timedelta(hours=self.ends))

    @rule()
    def an_hour_goes_by(self) -> None:
        self.hour += 1

    @rule(age=st.integers(0, 1), key=KEYS)
    def used(self, age: int, key: str) -> None:
        good = age == 0 and self.newest > 0 and self.hour < self.ends and self.user in {None, key}
        try:
            is_first = self.registry.use_token("pump-1", f"token {self.newest - age}", key)
        except TokenError:
            assert not good
        else:
            assert good
            assert is_first == (self.user is None)
            self.user = key


Tokens.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestTokens = Tokens.TestCase
