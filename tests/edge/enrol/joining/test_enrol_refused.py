"""`python -m edge enrol` where it gets nothing: told once, with the reason, and what was there stays."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edge.enrol.directory import IdentityDirectory
from fleet.authority import issue, new_authority

if TYPE_CHECKING:
    from pathlib import Path

DAY = dt.timedelta(days=1)
REFUSED, NOT_YET = 1, 75


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, "the token was used already, for another key"), (403, "the token has expired"), (400, "no such node")],
)
def test_a_token_that_is_refused_is_told_once_and_not_tried_again(
    joining: Any, capsys: pytest.CaptureFixture[str], refused: Any, status: int, reason: str
) -> None:
    card = joining.fleet.card()
    before = joining.token_in(card)
    joining.fleet.answers = [refused(status, reason)]

    assert joining.enrol(card, "--wait-s", "60") == REFUSED
    assert capsys.readouterr().err == f"edge: https://127.0.0.1:{joining.fleet.port} refuses: {reason}\n"
    assert len(joining.fleet.asked) == 1
    assert joining.directory.read() is None
    assert joining.token_in(card) == before


def test_a_token_that_somebody_else_has_used_is_refused(
    joining: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = joining.fleet.card()
    stolen = joining.token_in(card)
    assert joining.enrol(card) == 0
    thief = replace(joining, directory=IdentityDirectory(tmp_path / "thief"))

    assert thief.enrol(joining.fleet.card(token=stolen)) == REFUSED
    assert "used already, for another key" in capsys.readouterr().err
    assert thief.directory.read() is None


def test_an_endpoint_of_another_authority_gets_to_hear_nothing(
    joining: Any, new_fleet: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = new_fleet(served=False), new_fleet()
    ours.port = theirs.port

    assert joining.enrol(ours.card()) == NOT_YET
    assert "its certificate is not of the authority that we trust" in capsys.readouterr().err
    assert theirs.asked == []


def test_an_endpoint_whose_certificate_has_expired_is_not_believed(
    joining: Any, new_fleet: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = new_fleet(served=False)
    fleet.server_identity = issue(fleet.issuing, "endpoint", dt.timedelta(seconds=-60), ["127.0.0.1"])
    fleet.start()

    assert joining.enrol(fleet.card()) == NOT_YET
    assert "its certificate has expired by this machine's clock" in capsys.readouterr().err
    assert fleet.asked == []


@pytest.mark.parametrize("answer", [b"", b"{}", b"<html>", b"[" * 60_000, b" " * 70_000, b'{"certificate": "no PEM"}'])
def test_an_answer_that_is_none_changes_nothing(joining: Any, answer: bytes) -> None:
    joining.fleet.answers = [(200, answer, {})]
    card = joining.fleet.card()
    assert joining.enrol(card) == NOT_YET
    assert joining.directory.read() is None
    assert joining.enrol(card) == 0


def test_a_certificate_that_is_not_ours_is_not_taken(joining: Any, capsys: pytest.CaptureFixture[str]) -> None:
    other = new_authority("other", 10 * DAY)
    wrong = {
        "for another key": joining.fleet.identity(),
        "that of pi-008, not of pi-007": joining.fleet.identity(node="pi-008"),
        "certificates is none": None,
    }
    for reason, identity in wrong.items():
        chain = "-----BEGIN CERTIFICATE-----\nAAAA\n" if identity is None else identity.chain_pem
        joining.fleet.answers = [(200, json.dumps({"certificate": chain}).encode(), {})]
        assert joining.enrol(joining.fleet.card()) == REFUSED
        assert reason in capsys.readouterr().err
        assert joining.directory.read() is None
    joining.fleet.issuing = other
    assert joining.enrol(joining.fleet.card()) == REFUSED
    assert "not of the fleet's root" in capsys.readouterr().err
    assert joining.directory.read() is None


def test_a_new_token_makes_a_new_identity_and_a_refused_one_leaves_the_old(joining: Any, refused: Any) -> None:
    assert joining.enrol(joining.fleet.card()) == 0
    first = joining.serial
    joining.fleet.answers = [refused(403, "the token has expired")]
    assert joining.enrol(joining.fleet.card()) == REFUSED
    assert joining.serial == first

    assert joining.enrol(joining.fleet.card()) == 0
    assert joining.serial != first
    kept = [path for path in joining.directory.path.iterdir() if path.is_dir() and not path.is_symlink()]
    assert len(kept) == 1, "the old key is gone"


def test_without_token_key_or_identity_there_is_no_way(joining: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert joining.enrol(joining.fleet.card(token=None)) == REFUSED
    assert "get a new one, by `fleet enrol pi-007`" in capsys.readouterr().err


def test_wrong_use_is_told(joining: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert joining.enrol(tmp_path / "nowhere.json") == 2
    (tmp_path / "garbled.json").write_text("{")
    assert joining.enrol(tmp_path / "garbled.json") == 2
    assert joining.enrol(joining.fleet.card(), "--wait-s", "-1") == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.rpartition("/")[2].partition(" ")[0] for line in told] == [
        "nowhere.json",
        "garbled.json:",
        "--wait-s:",
    ]
