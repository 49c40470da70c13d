"""Certificates renewed at a real endpoint: by whom, how often, and what becomes of those before."""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.authority import Identity, issue, key_digest, new_authority, requested_key
from fleet.broker import is_let_in
from fleet.errors import FleetError
from fleet.revoking import revoke
from fleet.settings import Lifetimes
from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.home import Home

PATIENCE_S = 60.0


@pytest.fixture
def home(fleet: Any) -> Home:
    """A fleet whose certificates are old enough to be renewed as soon as they are there: they count from before."""
    short = Lifetimes(node_days=240 / 86_400)
    found: Home = replace(fleet.home, settings=fleet.home.settings.model_copy(update={"lifetimes": short}))
    return found


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def broken(*_: object) -> None:
    raise FleetError("it died here")


def test_a_certificate_is_renewed_by_the_present_one_which_stays_good(
    home: Home, device: Callable[..., Any], enrolled: Callable[[], Identity]
) -> None:
    present, key = enrolled(), new_key()
    answer = device(present).renew(key)
    assert answer.status == 200, answer
    renewed = Identity.of(key, answer.body["certificate"].encode())
    assert renewed.certificate.serial_number != present.certificate.serial_number
    assert is_let_in(home, renewed)
    assert is_let_in(home, present)


def test_a_renewal_whose_answer_was_lost_is_given_again(
    home: Home, device: Callable[..., Any], enrolled: Callable[[], Identity]
) -> None:
    present, key = enrolled(), new_key()
    first = device(present).renew(key)
    assert device(present).renew(key) == first
    renewed = Identity.of(key, first.body["certificate"].encode())
    again = device(renewed).renew(key)
    assert again.status == 200
    assert again != first, "a device that keeps its key is given a new certificate, too"
    assert is_let_in(home, present) is False, "it uses a newer one"


def test_of_renewals_at_once_the_newest_is_left_once_it_is_used_and_each_works_until_then(
    home: Home, device: Callable[..., Any], enrolled: Callable[[], Identity]
) -> None:
    present, keys = enrolled(), [new_key(), new_key()]
    made = [Identity.of(key, device(present).renew(key).body["certificate"].encode()) for key in keys]
    assert all(is_let_in(home, each) for each in (present, *made)), "any of them may be the one that has come"
    key = new_key()
    last = Identity.of(key, device(made[1]).renew(key).body["certificate"].encode())
    assert [is_let_in(home, each) for each in (present, *made, last)] == [False, False, True, True]
    assert device(made[0]).renew(new_key()).status == 403
    assert device(last).renew(new_key()).status == 200
    assert [is_let_in(home, each) for each in (made[1], last)] == [False, True]


def test_a_copied_key_is_told_of_when_who_is_locked_out_comes(
    home: Home, device: Callable[..., Any], caplog: pytest.LogCaptureFixture, enrolled: Callable[[], Identity]
) -> None:
    present, key = enrolled(), new_key()
    copied = device(present).renew(key).body["certificate"]
    assert device(Identity.of(key, copied.encode())).renew(new_key()).status == 200
    assert home.registry.node("pump-1").shown_again_at is None
    assert device(present).renew(new_key()).status == 403
    assert "pump-1: a certificate that a renewal had called back is shown again" in caplog.text
    assert home.registry.node("pump-1").shown_again_at is not None
    enrolled()
    assert home.registry.node("pump-1").shown_again_at is None, "it has a key of its own again"
    assert device(present).renew(new_key()).status == 403
    assert home.registry.node("pump-1").shown_again_at is None, "who has the copy asks on, in vain"


def test_two_lines_of_renewals_are_told_of_while_both_are_let_in(
    home: Home, device: Callable[..., Any], caplog: pytest.LogCaptureFixture, enrolled: Callable[[], Identity]
) -> None:
    present, keys = enrolled(), [new_key(), new_key()]
    home.enrolment_for("pump-1", baked=True)  # a spare card is none of them
    made = [Identity.of(key, device(present).renew(key).body["certificate"].encode()) for key in keys]
    home.enrolment_for("pump-1", baked=True)
    key = new_key()
    last = Identity.of(key, device(made[1]).renew(key).body["certificate"].encode())
    assert device(last).renew(new_key()).status == 200
    assert "two renew its certificate" not in caplog.text, "nobody uses the other one"
    mine, others = new_key(), new_key()
    first = Identity.of(mine, device(last).renew(mine).body["certificate"].encode())
    assert device(last).renew(others).status == 200
    assert home.registry.node("pump-1").shown_again_at is None
    assert device(first).renew(new_key()).status == 200
    assert "pump-1: two renew its certificate, each from another one" in caplog.text
    assert home.registry.node("pump-1").shown_again_at is not None
    assert is_let_in(home, first)


def test_a_lost_card_renews_nothing_while_another_takes_its_place(
    home: Home,
    device: Callable[..., Any],
    token_of: Callable[[str], str],
    enrolled: Callable[[], Identity],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost, lost_key, key = enrolled(), new_key(), new_key()
    entered, goes_on, answers, token = threading.Event(), threading.Event(), [], token_of("pump-1")

    def slow(pem: bytes, name: str) -> ec.EllipticCurvePublicKey:
        found = requested_key(pem, name)
        if key_digest(found) == key_digest(lost_key.public_key()):
            entered.set()
            goes_on.wait(PATIENCE_S)
        return found

    monkeypatch.setattr("fleet.serve.desk.requested_key", slow)
    renews = threading.Thread(target=lambda: answers.append(device(lost).renew(lost_key)))
    renews.start()
    assert entered.wait(PATIENCE_S)
    enrols = threading.Thread(target=lambda: answers.append(device().enrol("pump-1", token, key)))
    enrols.start()
    enrols.join(0.3)  # time to overtake, if it may
    goes_on.set()
    for thread in (renews, enrols):
        thread.join(PATIENCE_S)
    assert [answer.status for answer in answers] == [200, 200]
    good = [each for each in home.registry.certificates_of("pump-1") if each.revoked_at is None]
    assert [each.key_sha256 for each in good] == [key_digest(key.public_key())]


def test_a_renewal_does_not_wait_for_a_broker_that_does_not_hear(
    home: Home,
    device: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    enrolled: Callable[[], Identity],
) -> None:
    present, key = enrolled(), new_key()
    renewed = Identity.of(key, device(present).renew(key).body["certificate"].encode())
    with monkeypatch.context() as patch:
        patch.setattr("fleet.serve.desk.reload", broken)
        key = new_key()
        assert device(renewed).renew(key).status == 200
    assert "pump-1: the broker has not heard what was called back" in caplog.text
    assert is_let_in(home, present)
    assert device(renewed).renew(key).status == 200
    assert not is_let_in(home, present), "told again"


def test_nobody_renews_without_a_certificate_or_in_anothers_name(
    home: Home, device: Callable[..., Any], enrolled: Callable[[], Identity]
) -> None:
    present = enrolled()
    assert device().renew(new_key()).status == 401
    answer = device(present).renew(new_key(), node="pump-2")
    assert (answer.status, "allowed is the common name 'pump-1' alone" in answer.reason) == (400, True)
    with home.operator() as operator:
        tool = Identity(operator.identity_file.read_bytes())
    assert device(tool).renew(new_key(), node=operator.name).status == 403


def test_who_was_revoked_renews_nothing(
    home: Home,
    device: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    token_of: Callable[[str], str],
    enrolled: Callable[[], Identity],
) -> None:
    present = enrolled()
    token = token_of("pump-1")
    revoke(home, "pump-1")
    answer = device(present).renew(new_key())
    assert (answer.status, "was revoked at" in answer.reason) == (403, True)
    assert "refused: pump-1: this certificate was revoked at" in caplog.text
    assert home.registry.node("pump-1").shown_again_at is None, "it was no renewal that has called it back"
    assert device().enrol("pump-1", token).status == 403


def of_another_fleet(_home: Home) -> Identity:
    return issue(new_authority("Test issuing", dt.timedelta(hours=1)), "pump-1", dt.timedelta(hours=1))


def expired(home: Home) -> Identity:
    return issue(home.issuing(), "pump-1", dt.timedelta(seconds=-1))


@pytest.mark.parametrize(
    ("made", "alert", "logged"),
    [
        (of_another_fleet, "alert unknown ca", "unable to get local issuer certificate"),
        (expired, "alert certificate expired", "certificate has expired"),
    ],
)
def test_a_certificate_that_is_no_good_is_refused_in_the_handshake(
    home: Home,
    device: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    made: Callable[[Home], Identity],
    alert: str,
    logged: str,
) -> None:
    with pytest.raises(ssl.SSLError, match=alert):
        device(made(home)).renew(new_key())
    said = f"refused: the certificate that it shows: {logged}"
    assert wait_until(lambda: said in caplog.text, timeout_s=PATIENCE_S), caplog.text


def test_a_certificate_that_nobody_noted_is_refused(
    home: Home, device: Callable[..., Any], caplog: pytest.LogCaptureFixture, enrolled: Callable[[], Identity]
) -> None:
    """As the one that ends a revoked node's session."""
    enrolled()
    assert device(issue(home.issuing(), "pump-1", dt.timedelta(hours=1))).renew(new_key()).status == 401
    assert "is not in the registry" in caplog.text
