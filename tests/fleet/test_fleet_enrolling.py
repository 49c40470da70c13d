"""Tokens at a real endpoint and a real broker: who gets a certificate, and what those hear who get none."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.authority import Identity, key_digest
from fleet.broker import is_let_in
from fleet.errors import FleetError
from fleet.home import Home
from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 60.0


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_a_token_gets_a_certificate_that_the_broker_takes(
    home: Home, device: Callable[..., Any], token_of: Callable[[str], str]
) -> None:
    key, token = new_key(), token_of("pump-1")
    answer = device().enrol("pump-1", token, key)
    assert answer.status == 200, answer
    identity = Identity.of(key, answer.body["certificate"].encode())
    assert is_let_in(home, identity)
    left = identity.certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=59) < left < dt.timedelta(days=61)
    assert home.registry.node("pump-1").certificate_ends_at is not None


def test_a_lost_answer_is_given_again_to_the_same_key_alone(
    device: Callable[..., Any], caplog: pytest.LogCaptureFixture, token_of: Callable[[str], str]
) -> None:
    key, token = new_key(), token_of("pump-1")
    first = device().enrol("pump-1", token, key)
    assert device().enrol("pump-1", token, key) == first
    again = device().enrol("pump-1", token)
    assert (again.status, "used already" in again.reason) == (403, True)
    assert "refused: pump-1: pump-1's token was used already, with another key" in caplog.text


def test_an_expired_token_is_refused(
    home: Home, device: Callable[..., Any], caplog: pytest.LogCaptureFixture, token_of: Callable[[str], str]
) -> None:
    token = token_of("pump-1")
    with pytest.MonkeyPatch.context() as patch:
        later = dt.datetime.now(dt.UTC) + home.settings.lifetimes.token
        patch.setattr("fleet.registry._now", lambda: later)
        answer = device().enrol("pump-1", token)
    assert (answer.status, "expired at" in answer.reason) == (403, True)
    assert "refused: pump-1: pump-1's token expired at" in caplog.text
    assert device().enrol("pump-1", token).status == 200


@pytest.mark.parametrize("known", [True, False])
def test_a_wrong_token_says_not_whether_there_is_such_a_node(
    device: Callable[..., Any], token_of: Callable[[str], str], *, known: bool
) -> None:
    if known:
        token_of("pump-1")
    answer = device().enrol("pump-1", "x" * 43)
    assert (answer.status, answer.reason) == (403, "this is no token of pump-1's")


def test_a_token_is_for_one_node(
    device: Callable[..., Any], caplog: pytest.LogCaptureFixture, token_of: Callable[[str], str]
) -> None:
    token_of("pump-1")
    answer = device().enrol("pump-1", token_of("pump-2"))
    assert answer.status == 403
    assert "pump-1: this is not pump-1's token" in caplog.text


def test_a_newer_token_voids_the_one_before(device: Callable[..., Any], token_of: Callable[[str], str]) -> None:
    old, new = token_of("pump-1"), token_of("pump-1")
    assert device().enrol("pump-1", old).status == 403
    assert device().enrol("pump-1", new).status == 200


def test_who_enrols_again_locks_out_who_was_there_before(
    home: Home, device: Callable[..., Any], token_of: Callable[[str], str]
) -> None:
    """A card that was lost holds a good certificate, until the node's next one is there."""
    lost_key, key = new_key(), new_key()
    lost = Identity.of(lost_key, device().enrol("pump-1", token_of("pump-1"), lost_key).body["certificate"].encode())
    assert is_let_in(home, lost)
    found = Identity.of(key, device().enrol("pump-1", token_of("pump-1"), key).body["certificate"].encode())
    assert wait_until(lambda: not is_let_in(home, lost), timeout_s=PATIENCE_S)
    assert is_let_in(home, found)


def test_a_lost_card_is_locked_out_though_serve_died_before_the_broker_knew(
    home: Home,
    device: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    token_of: Callable[[str], str],
    enrolled: Callable[[], Identity],
) -> None:
    """Wherever it dies: who has heard no answer asks again, and hears one when the broker refuses the lost card."""
    lost = enrolled()
    key, token = new_key(), token_of("pump-1")
    for place in ("fleet.home.Home.certify", "fleet.revoking.keep_files", "fleet.revoking.reload"):
        with monkeypatch.context() as patch:
            patch.setattr(place, broken)
            assert device().enrol("pump-1", token, key).status == 503
        assert is_let_in(home, lost), place
    answer = device().enrol("pump-1", token, key)
    assert answer.status == 200
    assert not is_let_in(home, lost)
    assert is_let_in(home, Identity.of(key, answer.body["certificate"].encode()))


def broken(*_: object) -> None:
    raise FleetError("it died here")


def test_of_two_tokens_at_once_the_newer_one_s_key_is_left(
    home: Home, device: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, token_of: Callable[[str], str]
) -> None:
    """A card that was lost asks at the very moment at which the new one does."""
    lost_token, entered, goes_on = token_of("pump-1"), threading.Event(), threading.Event()
    certify, answers = Home.certify, []

    def slow(home: Home, *of: Any) -> bytes:
        if not entered.is_set():
            entered.set()
            goes_on.wait(PATIENCE_S)
        return certify(home, *of)

    monkeypatch.setattr(Home, "certify", slow)
    keys = [new_key(), new_key()]
    first = threading.Thread(target=lambda: answers.append(device().enrol("pump-1", lost_token, keys[0])))
    first.start()
    assert entered.wait(PATIENCE_S)
    new_token = token_of("pump-1")
    second = threading.Thread(target=lambda: answers.append(device().enrol("pump-1", new_token, keys[1])))
    second.start()
    second.join(0.3)  # time to overtake, if it may
    goes_on.set()
    for thread in (first, second):
        thread.join(PATIENCE_S)
    assert [answer.status for answer in answers] == [200, 200]
    good = [each for each in home.registry.certificates_of("pump-1") if each.revoked_at is None]
    assert [each.key_sha256 for each in good] == [key_digest(keys[1].public_key())]


def test_somebody_elses_key_gets_no_certificate(
    device: Callable[..., Any], caplog: pytest.LogCaptureFixture, token_of: Callable[[str], str]
) -> None:
    key = new_key()
    assert device().enrol("pump-1", token_of("pump-1"), key).status == 200
    answer = device().enrol("pump-2", token_of("pump-2"), key)
    assert (answer.status, answer.reason) == (403, "this key is somebody else's")
    assert "the key in the CSR is pump-1's" in caplog.text
