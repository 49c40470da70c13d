"""`python -m edge enrol` against an endpoint over real TLS: what it gets, what it leaves, what it survives."""

from __future__ import annotations

import datetime as dt
import json
import os
import ssl
import stat
from typing import TYPE_CHECKING, Any

import pytest

from edge.enrol.certificate import is_key
from edge.enrol.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = dt.timedelta(days=1)
NOT_YET = 75


def test_the_device_gets_a_certificate_for_a_key_of_its_own_and_forgets_the_token(
    joining: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    card = joining.fleet.card()
    (token,) = joining.fleet.tokens

    assert joining.enrol(card) == 0

    at = joining.directory.path
    assert "the identity of pi-007 is there" in capsys.readouterr().out
    context = ssl.create_default_context(cafile=at / "ca.pem")
    context.load_cert_chain(at / "cert.pem", at / "key.pem")  # refuses a key that is not the certificate's
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (at, at / "current", at / "key.pem", card)}
    assert modes == {"identity": 0o700, "current": 0o700, "key.pem": 0o600, "enrol.json": 0o600}
    assert joining.token_in(card) is None
    everything = [path.read_bytes() for path in (*at.rglob("*"), *card.parent.iterdir()) if path.is_file()]
    assert everything
    assert not [content for content in everything if token.encode() in content]
    assert "PRIVATE KEY" not in json.dumps(joining.fleet.asked)


def test_a_repeated_run_asks_nobody(joining: Any, capsys: pytest.CaptureFixture[str]) -> None:
    card = joining.fleet.card()
    assert joining.enrol(card) == 0
    before = joining.serial
    joining.fleet.stop()

    assert joining.enrol(card) == 0
    assert joining.serial == before
    assert "is there already" in capsys.readouterr().out


def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_key(joining: Any) -> None:
    card = joining.fleet.card()
    joining.fleet.lost_answers = 1

    assert joining.enrol(card) == NOT_YET
    assert len(joining.fleet.issued) == 1
    assert joining.directory.read() is None

    assert joining.enrol(card) == 0
    assert len(joining.fleet.issued) == 1
    assert joining.token_in(card) is None


class _PowerCutError(BaseException):
    """As a power cut, nothing catches it."""


def _cut_power_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets so many calls that change a disk happen, and none after them."""
    left = [step]

    def cut(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise _PowerCutError
            return real(*args, **kwargs)

        return call

    for name in ("fsync", "rename", "replace", "symlink", "mkdir", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, cut(getattr(os, name)))


def test_power_may_fail_at_any_moment_of_an_enrolment(joining: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    card, old = joining.fleet.card(), None
    for step in range(200):
        with monkeypatch.context() as patch:
            _cut_power_at(step, patch)
            try:
                done = joining.enrol(card)
            except _PowerCutError:
                done = None
        found = joining.directory.read()
        assert (None if found is None else found.check().serial) in {old, _serial(joining.fleet.issued[-1:])}
        assert joining.enrol(card) == 0
        assert joining.token_in(card) is None
        assert len(joining.fleet.issued) == len(joining.fleet.tokens), "one certificate for a token"
        assert [path.name for path in joining.directory.path.iterdir() if path.name.startswith(".")] == []
        if done == 0:
            assert step > 20, "the power was never cut"
            return
        # The next attempt is that of a node that has an identity, and a card with a new token.
        old = joining.serial
        card = joining.fleet.card()
    pytest.fail("it never got through")


def _serial(chains: list[str]) -> str | None:
    from edge.enrol.certificate import read_certificate  # noqa: PLC0415 - of this one function

    return read_certificate(chains[0]).serial if chains else None


def test_power_that_failed_before_the_token_was_wiped_costs_no_second_certificate(
    joining: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = joining.fleet.card()
    unwiped = card.read_bytes()
    assert joining.enrol(card) == 0
    card.write_bytes(unwiped)
    monkeypatch.setattr(Endpoint, "ask", _never)
    assert joining.enrol(card) == 0
    assert joining.token_in(card) is None


async def _never(*_: object) -> str:
    raise AssertionError("nobody is to be asked")


def _bake(fleet: Any, age: dt.timedelta, life: dt.timedelta) -> Path:
    card: Path = fleet.card(token=None)
    begins_at = dt.datetime.now(dt.UTC) - age
    baked = fleet.identity_from(begins_at, begins_at + life)
    (card.parent / "key.pem").write_text(baked.key_pem)
    (card.parent / "cert.pem").write_text(baked.chain_pem)
    return card


def test_what_is_baked_is_taken_in_without_a_network(
    joining: Any, new_fleet: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = new_fleet(served=False)
    card = _bake(fleet, 9 * DAY, 30 * DAY)
    assert joining.enrol(card) == 0
    first = joining.serial
    assert "was baked in" in capsys.readouterr().out
    assert not (card.parent / "key.pem").exists()
    assert joining.enrol(card) == 0

    # Flashed again while the identity was kept, or cut off before the key was deleted: a renewed one is better.
    now = dt.datetime.now(dt.UTC)
    joining.directory.put(fleet.identity_from(now - DAY, now + 60 * DAY))
    renewed = joining.serial
    assert joining.enrol(_bake(fleet, 8 * DAY, 90 * DAY)) == 0
    assert joining.serial == renewed != first
    assert not (card.parent / "key.pem").exists()

    # Baked after that, for whatever time: what it replaces may have been called back.
    assert joining.enrol(_bake(fleet, 0 * DAY, 30 * DAY)) == 0
    assert joining.serial not in {first, renewed}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a place that another may not write to")
def test_a_token_that_cannot_be_wiped_is_told(
    joining: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = joining.fleet.card()

    def full(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("edge.enrol.card.replace_file", full)
    assert joining.enrol(card) == 0
    assert "could not be taken out, though neither is needed any more: Read-only file system" in caplog.text
    monkeypatch.undo()
    assert joining.enrol(card) == 0
    assert joining.token_in(card) is None
    assert len(joining.fleet.issued) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another")
def test_as_root_it_writes_as_whoever_owns_the_directory(joining: Any, tmp_path: Path) -> None:
    owner = 12_345
    for directory in (tmp_path, *tmp_path.parents):
        if directory.is_relative_to("/tmp") and directory != directory.parent:
            directory.chmod(directory.stat().st_mode | 0o011)
    home = joining.directory.path.parent
    home.mkdir()
    os.chown(home, owner, owner)

    assert joining.enrol(joining.fleet.card()) == 0
    assert {path.lstat().st_uid for path in joining.directory.path.rglob("*")} == {owner}
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_a_dry_run_does_nothing(joining: Any, capsys: pytest.CaptureFixture[str]) -> None:
    card = joining.fleet.card()
    before = card.read_bytes()
    assert joining.enrol(card, "--dry-run") == 0
    assert "would do: make a key, and ask for its certificate" in capsys.readouterr().out
    assert joining.enrol(card, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["step"], told["dry_run"], told["certificate"]) == ("ask", True, None)
    assert (joining.fleet.asked, card.read_bytes()) == ([], before)
    assert not joining.directory.path.exists()


def test_programs_read_what_became_of_it(joining: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert joining.enrol(joining.fleet.card(), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["certificate"]["node"] == "pi-007"
    assert told["certificate"]["serial"] == joining.serial
    assert dt.datetime.fromisoformat(told["certificate"]["not_after"]) > dt.datetime.now(dt.UTC)


def test_a_key_that_is_asked_with_stays_and_each_purpose_has_its_own(joining: Any) -> None:
    for_token = joining.directory.key_to_ask_with("a token's")
    for_renewal = joining.directory.key_to_ask_with("4711")
    assert for_token != for_renewal
    assert joining.directory.key_to_ask_with("a token's") == for_token
    assert joining.directory.key_to_ask_with("4711") == for_renewal
    # What no one can use is not kept for ever.
    (joining.directory.path / "asking-4711" / "key.pem").write_text("garbled")
    again = joining.directory.key_to_ask_with("4711")
    assert again != for_renewal
    assert is_key(again)
