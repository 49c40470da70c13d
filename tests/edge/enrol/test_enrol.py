"""`python -m edge enrol` against an endpoint over real TLS: what it gets, what it is refused, what it survives."""

from __future__ import annotations

import datetime as dt
import json
import os
import ssl
import stat
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.enrolment import Enrolment, read_message
from edge.__main__ import main
from edge.enrol.endpoint import Endpoint
from fleet.authority import issue, new_authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge.enrol.directory import IdentityDirectory

DAY = dt.timedelta(days=1)
REFUSED, NOT_YET = 1, 75


def enrol(card: Path, directory: IdentityDirectory, *more: str) -> int:
    return main(["enrol", str(card), "--out", str(directory), "--wait-s", "0", *more])


def token_in(card: Path) -> str | None:
    token = read_message(card.read_bytes(), Enrolment, str(card)).token
    return None if token is None else token.get_secret_value()


def serial(directory: IdentityDirectory) -> str:
    found = directory.read()
    assert found is not None
    return found.check().serial


def test_the_device_gets_a_certificate_for_a_key_of_its_own_and_forgets_the_token(
    scripted_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    card = scripted_fleet.card()
    (token,) = scripted_fleet.tokens

    assert enrol(card, identity_directory) == 0

    at = identity_directory.path
    assert "the identity of pi-007 is there" in capsys.readouterr().out
    context = ssl.create_default_context(cafile=at / "ca.pem")
    context.load_cert_chain(at / "cert.pem", at / "key.pem")  # refuses a key that is not the certificate's
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (at, at / "current", at / "key.pem", card)}
    assert modes == {"identity": 0o700, "current": 0o700, "key.pem": 0o600, "enrol.json": 0o600}
    assert token_in(card) is None
    everything = [path.read_bytes() for path in (*at.rglob("*"), *card.parent.iterdir()) if path.is_file()]
    assert everything
    assert not [content for content in everything if token.encode() in content]
    assert "PRIVATE KEY" not in json.dumps(scripted_fleet.asked)


def test_a_repeated_run_asks_nobody(
    scripted_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    card = scripted_fleet.card()
    assert enrol(card, identity_directory) == 0
    before = serial(identity_directory)
    scripted_fleet.stop()

    assert enrol(card, identity_directory) == 0
    assert serial(identity_directory) == before
    assert "is there already" in capsys.readouterr().out


def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_key(
    scripted_fleet: Any, identity_directory: IdentityDirectory
) -> None:
    card = scripted_fleet.card()
    scripted_fleet.lost_answers = 1

    assert enrol(card, identity_directory) == NOT_YET
    assert len(scripted_fleet.issued) == 1
    assert identity_directory.read() is None

    assert enrol(card, identity_directory) == 0
    assert len(scripted_fleet.issued) == 1
    assert token_in(card) is None


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


def test_power_may_fail_at_any_moment_of_an_enrolment(
    scripted_fleet: Any, identity_directory: IdentityDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, old = scripted_fleet.card(), None
    for step in range(200):
        with monkeypatch.context() as patch:
            _cut_power_at(step, patch)
            try:
                done = enrol(card, identity_directory)
            except _PowerCutError:
                done = None
        found = identity_directory.read()
        assert (None if found is None else found.check().serial) in {old, _serial(scripted_fleet.issued[-1:])}
        assert enrol(card, identity_directory) == 0
        assert token_in(card) is None
        assert len(scripted_fleet.issued) == len(scripted_fleet.tokens), "one certificate for a token"
        assert [path.name for path in identity_directory.path.iterdir() if path.name.startswith(".")] == []
        if done == 0:
            assert step > 20, "the power was never cut"
            return
        # The next attempt is that of a node that has an identity, and a card with a new token.
        old = serial(identity_directory)
        card = scripted_fleet.card()
    pytest.fail("it never got through")


def _serial(chains: list[str]) -> str | None:
    from edge.enrol.certificate import read_certificate  # noqa: PLC0415 - of this one function

    return read_certificate(chains[0]).serial if chains else None


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, "the token was used already, for another key"), (403, "the token has expired"), (400, "no such node")],
)
def test_a_token_that_is_refused_is_told_once_and_not_tried_again(
    scripted_fleet: Any,
    identity_directory: IdentityDirectory,
    capsys: pytest.CaptureFixture[str],
    refused: Any,
    status: int,
    reason: str,
) -> None:
    card = scripted_fleet.card()
    before = token_in(card)
    scripted_fleet.answers = [refused(status, reason)]

    assert enrol(card, identity_directory, "--wait-s", "60") == REFUSED
    assert capsys.readouterr().err == f"edge: https://127.0.0.1:{scripted_fleet.port} refuses: {reason}\n"
    assert len(scripted_fleet.asked) == 1
    assert identity_directory.read() is None
    assert token_in(card) == before


def test_a_token_that_somebody_else_has_used_is_refused(
    scripted_fleet: Any, identity_directory: IdentityDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = scripted_fleet.card()
    stolen = token_in(card)
    assert enrol(card, identity_directory) == 0
    thief = type(identity_directory)(tmp_path / "thief")

    assert enrol(scripted_fleet.card(token=stolen), thief) == REFUSED
    assert "used already, for another key" in capsys.readouterr().err
    assert thief.read() is None


def test_an_endpoint_of_another_authority_gets_to_hear_nothing(
    new_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = new_fleet(served=False), new_fleet()
    ours.port = theirs.port

    assert enrol(ours.card(), identity_directory) == NOT_YET
    assert "its certificate is not of the authority that we trust" in capsys.readouterr().err
    assert theirs.asked == []


def test_a_clock_that_is_not_set_is_waited_for(
    new_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    # To a device that is behind, a good certificate is one of the future.
    fleet = new_fleet(served=False)
    now = dt.datetime.now(dt.UTC)
    future = fleet.identity_from(now + DAY, now + 2 * DAY)
    fleet.server_identity = type(fleet.root)((future.key_pem + future.chain_pem).encode())
    fleet.start()

    assert enrol(fleet.card(), identity_directory) == NOT_YET
    assert "its certificate is not valid yet by this machine's clock, which says 20" in capsys.readouterr().err


def test_an_endpoint_whose_certificate_has_expired_is_not_believed(
    new_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = new_fleet(served=False)
    fleet.server_identity = issue(fleet.issuing, "endpoint", dt.timedelta(seconds=-60), ["127.0.0.1"])
    fleet.start()

    assert enrol(fleet.card(), identity_directory) == NOT_YET
    assert "its certificate has expired by this machine's clock" in capsys.readouterr().err
    assert fleet.asked == []


def test_it_waits_for_the_network(new_fleet: Any, identity_directory: IdentityDirectory) -> None:
    fleet = new_fleet(served=False)
    card = fleet.card()
    coming = threading.Timer(0.2, fleet.start)
    coming.start()
    try:
        assert enrol(card, identity_directory, "--wait-s", "30") == 0
    finally:
        coming.join()
    assert serial(identity_directory)


def test_without_a_network_it_gives_up_with_a_code_of_its_own(
    new_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    card = new_fleet(served=False).card()
    assert enrol(card, identity_directory) == NOT_YET
    assert capsys.readouterr().err.startswith("edge: not yet: https://127.0.0.1:")
    assert token_in(card) is not None


@pytest.mark.parametrize("url", ["https://127.0.0.1:99999", "https://[::1", "https://.", "https://" + 64 * "x"])
def test_a_url_that_cannot_be_is_told(
    new_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    card = new_fleet(served=False).card(url=url)
    assert enrol(card, identity_directory) == NOT_YET
    assert capsys.readouterr().err.startswith(f"edge: not yet: {url}: ")


def test_a_busy_endpoint_says_when_to_ask_again(
    scripted_fleet: Any, identity_directory: IdentityDirectory, refused: Any
) -> None:
    scripted_fleet.answers = [refused(429, "too many ask", Retry_After="2")]
    begun_s = time.monotonic()
    assert enrol(scripted_fleet.card(), identity_directory, "--wait-s", "30") == 0
    assert time.monotonic() - begun_s >= 2


@pytest.mark.parametrize("answer", [b"", b"{}", b"<html>", b"[" * 60_000, b" " * 70_000, b'{"certificate": "no PEM"}'])
def test_an_answer_that_is_none_changes_nothing(
    scripted_fleet: Any, identity_directory: IdentityDirectory, answer: bytes
) -> None:
    scripted_fleet.answers = [(200, answer, {})]
    card = scripted_fleet.card()
    assert enrol(card, identity_directory) == NOT_YET
    assert identity_directory.read() is None
    assert enrol(card, identity_directory) == 0


def test_a_certificate_that_is_not_ours_is_not_taken(
    scripted_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    other = new_authority("other", 10 * DAY)
    wrong = {
        "for another key": scripted_fleet.identity(),
        "that of pi-008, not of pi-007": scripted_fleet.identity(node="pi-008"),
        "certificates is none": None,
    }
    for reason, identity in wrong.items():
        chain = "-----BEGIN CERTIFICATE-----\nAAAA\n" if identity is None else identity.chain_pem
        scripted_fleet.answers = [(200, json.dumps({"certificate": chain}).encode(), {})]
        assert enrol(scripted_fleet.card(), identity_directory) == REFUSED
        assert reason in capsys.readouterr().err
        assert identity_directory.read() is None
    scripted_fleet.issuing = other
    assert enrol(scripted_fleet.card(), identity_directory) == REFUSED
    assert "not of the fleet's root" in capsys.readouterr().err
    assert identity_directory.read() is None


def test_a_new_token_makes_a_new_identity_and_a_refused_one_leaves_the_old(
    scripted_fleet: Any, identity_directory: IdentityDirectory, refused: Any
) -> None:
    assert enrol(scripted_fleet.card(), identity_directory) == 0
    first = serial(identity_directory)
    scripted_fleet.answers = [refused(403, "the token has expired")]
    assert enrol(scripted_fleet.card(), identity_directory) == REFUSED
    assert serial(identity_directory) == first

    assert enrol(scripted_fleet.card(), identity_directory) == 0
    assert serial(identity_directory) != first
    kept = [path for path in identity_directory.path.iterdir() if path.is_dir() and not path.is_symlink()]
    assert len(kept) == 1, "the old key is gone"


def _bake(fleet: Any, life: dt.timedelta) -> Path:
    card: Path = fleet.card(token=None)
    baked = fleet.identity(life)
    (card.parent / "key.pem").write_text(baked.key_pem)
    (card.parent / "cert.pem").write_text(baked.chain_pem)
    return card


def test_what_is_baked_is_taken_in_without_a_network(
    new_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = new_fleet(served=False)
    card = _bake(fleet, 30 * DAY)
    assert enrol(card, identity_directory) == 0
    first = serial(identity_directory)
    assert "was baked in" in capsys.readouterr().out
    assert not (card.parent / "key.pem").exists()
    assert enrol(card, identity_directory) == 0

    # Flashed again while the identity was kept, or cut off before the key was deleted: a renewed one is better.
    identity_directory.put(fleet.identity(60 * DAY))
    renewed = serial(identity_directory)
    assert enrol(_bake(fleet, 30 * DAY), identity_directory) == 0
    assert serial(identity_directory) == renewed != first
    assert not (card.parent / "key.pem").exists()


def test_without_token_key_or_identity_there_is_no_way(
    scripted_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(scripted_fleet.card(token=None), identity_directory) == REFUSED
    assert "get a new one, by `fleet enrol pi-007`" in capsys.readouterr().err


def test_wrong_use_is_told(
    scripted_fleet: Any, identity_directory: IdentityDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(tmp_path / "nowhere.json", identity_directory) == 2
    (tmp_path / "garbled.json").write_text("{")
    assert enrol(tmp_path / "garbled.json", identity_directory) == 2
    assert enrol(scripted_fleet.card(), identity_directory, "--wait-s", "-1") == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.rpartition("/")[2].partition(" ")[0] for line in told] == [
        "nowhere.json",
        "garbled.json:",
        "--wait-s:",
    ]


def test_a_dry_run_does_nothing(
    scripted_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    card = scripted_fleet.card()
    before = card.read_bytes()
    assert enrol(card, identity_directory, "--dry-run") == 0
    assert "would do: make a key, and ask for its certificate" in capsys.readouterr().out
    assert enrol(card, identity_directory, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["step"], told["dry_run"], told["certificate"]) == ("ask", True, None)
    assert (scripted_fleet.asked, card.read_bytes()) == ([], before)
    assert not identity_directory.path.exists()


def test_programs_read_what_became_of_it(
    scripted_fleet: Any, identity_directory: IdentityDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(scripted_fleet.card(), identity_directory, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["certificate"]["node"] == "pi-007"
    assert told["certificate"]["serial"] == serial(identity_directory)
    assert dt.datetime.fromisoformat(told["certificate"]["not_after"]) > dt.datetime.now(dt.UTC)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another")
def test_as_root_it_writes_as_whoever_owns_the_directory(
    scripted_fleet: Any, identity_directory: IdentityDirectory, tmp_path: Path
) -> None:
    owner = 12_345
    for directory in (tmp_path, *tmp_path.parents):
        if directory.is_relative_to("/tmp") and directory != directory.parent:
            directory.chmod(directory.stat().st_mode | 0o011)
    home = identity_directory.path.parent
    home.mkdir()
    os.chown(home, owner, owner)

    assert enrol(scripted_fleet.card(), identity_directory) == 0
    assert {path.lstat().st_uid for path in identity_directory.path.rglob("*")} == {owner}
    assert (os.geteuid(), os.getegid()) == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a place that another may not write to")
def test_a_token_that_cannot_be_wiped_is_told(
    scripted_fleet: Any,
    identity_directory: IdentityDirectory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = scripted_fleet.card()

    def full(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("edge.enrol.card.replace_file", full)
    assert enrol(card, identity_directory) == 0
    assert "could not be taken out, though neither is needed any more: Read-only file system" in caplog.text
    monkeypatch.undo()
    assert enrol(card, identity_directory) == 0
    assert token_in(card) is None
    assert len(scripted_fleet.issued) == 1


async def _never(*_: object) -> str:
    raise AssertionError("nobody is to be asked")


def test_power_that_failed_before_the_token_was_wiped_costs_no_second_certificate(
    scripted_fleet: Any, identity_directory: IdentityDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = scripted_fleet.card()
    unwiped = card.read_bytes()
    assert enrol(card, identity_directory) == 0
    card.write_bytes(unwiped)
    monkeypatch.setattr(Endpoint, "ask", _never)
    assert enrol(card, identity_directory) == 0
    assert token_in(card) is None
