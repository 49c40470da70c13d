"""The enrolment endpoint over real TLS: who gets a certificate, and what those hear who get none."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import logging
import math
import socket
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from contract.enrolment import ENROL_PATH, MAX_REQUEST_BYTES, RENEW_PATH
from fleet.authority import Identity, issue, key_digest, new_authority, new_request
from fleet.broker import is_let_in
from fleet.errors import FleetError
from fleet.home import Home
from fleet.revoking import revoke
from fleet.serve import Endpoint
from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, str]
    retry_after_s: str | None = None

    @property
    def reason(self) -> str:
        return self.body["reason"]


@dataclass(frozen=True)
class Device:
    """Somebody at the endpoint, with an identity of his own or none."""

    home: Home
    port: int
    identity: Identity | None = None

    def post(self, path: str, body: object, **headers: str) -> Answer:
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=PATIENCE_S, context=self.context())
        try:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request("POST", path, content, headers)
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()), answer.headers["Retry-After"])
        finally:
            connection.close()

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.home.path / "root/ca.pem")
        if self.identity is not None:
            file = self.home.path / "device.pem"
            file.write_bytes(self.identity.pem)
            context.load_cert_chain(file)
        return context

    def enrol(self, node: str, token: str, key: ec.EllipticCurvePrivateKey | None = None) -> Answer:
        csr = new_request(node, key or new_key()).decode()
        return self.post(ENROL_PATH, {"node": node, "token": token, "csr": csr})

    def renew(self, key: ec.EllipticCurvePrivateKey, node: str = "pump-1") -> Answer:
        return self.post(RENEW_PATH, {"csr": new_request(node, key).decode()})


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def token_of(home: Home, node: str) -> str:
    home.registry.add_node(node, "plant")
    token = home.enrolment_for(node).enrolment.token
    assert token is not None
    return token.get_secret_value()


@pytest.fixture
def home(fleet: Any) -> Home:
    found: Home = fleet.home
    return found


@pytest.fixture
def endpoint(home: Home) -> Iterator[Endpoint]:
    with Endpoint(home, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="endpoint")
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def device(home: Home, endpoint: Endpoint) -> Callable[..., Device]:
    return lambda identity=None: Device(home, endpoint.port, identity)


def test_a_token_gets_a_certificate_that_the_broker_takes(home: Home, device: Callable[..., Device]) -> None:
    key, token = new_key(), token_of(home, "pump-1")
    answer = device().enrol("pump-1", token, key)
    assert answer.status == 200, answer
    identity = Identity.of(key, answer.body["certificate"].encode())
    assert is_let_in(home, identity)
    left = identity.certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=59) < left < dt.timedelta(days=61)
    assert home.registry.node("pump-1").certificate_ends_at is not None


def test_a_lost_answer_is_given_again_to_the_same_key_alone(
    home: Home, device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    key, token = new_key(), token_of(home, "pump-1")
    first = device().enrol("pump-1", token, key)
    assert device().enrol("pump-1", token, key) == first
    again = device().enrol("pump-1", token)
    assert (again.status, "used already" in again.reason) == (403, True)
    assert "refused: pump-1: pump-1's token was used already, with another key" in caplog.text


def test_an_expired_token_is_refused(
    home: Home, device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    token = token_of(home, "pump-1")
    with pytest.MonkeyPatch.context() as patch:
        later = dt.datetime.now(dt.UTC) + home.settings.lifetimes.token
        patch.setattr("fleet.registry._now", lambda: later)
        answer = device().enrol("pump-1", token)
    assert (answer.status, "expired at" in answer.reason) == (403, True)
    assert "refused: pump-1: pump-1's token expired at" in caplog.text
    assert device().enrol("pump-1", token).status == 200


@pytest.mark.parametrize("known", [True, False])
def test_a_wrong_token_says_not_whether_there_is_such_a_node(
    home: Home, device: Callable[..., Device], *, known: bool
) -> None:
    if known:
        token_of(home, "pump-1")
    answer = device().enrol("pump-1", "x" * 43)
    assert (answer.status, answer.reason) == (403, "this is no token of pump-1's")


def test_a_token_is_for_one_node(home: Home, device: Callable[..., Device], caplog: pytest.LogCaptureFixture) -> None:
    token_of(home, "pump-1")
    answer = device().enrol("pump-1", token_of(home, "pump-2"))
    assert answer.status == 403
    assert "pump-1: this is not pump-1's token" in caplog.text


def test_a_newer_token_voids_the_one_before(home: Home, device: Callable[..., Device]) -> None:
    old, new = token_of(home, "pump-1"), token_of(home, "pump-1")
    assert device().enrol("pump-1", old).status == 403
    assert device().enrol("pump-1", new).status == 200


def test_who_enrols_again_locks_out_who_was_there_before(home: Home, device: Callable[..., Device]) -> None:
    """A card that was lost holds a good certificate, until the node's next one is there."""
    lost_key, key = new_key(), new_key()
    lost = Identity.of(
        lost_key, device().enrol("pump-1", token_of(home, "pump-1"), lost_key).body["certificate"].encode()
    )
    assert is_let_in(home, lost)
    found = Identity.of(key, device().enrol("pump-1", token_of(home, "pump-1"), key).body["certificate"].encode())
    assert wait_until(lambda: not is_let_in(home, lost), timeout_s=PATIENCE_S)
    assert is_let_in(home, found)


def test_a_lost_card_is_locked_out_though_serve_died_before_the_broker_knew(
    home: Home, device: Callable[..., Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it dies: who has heard no answer asks again, and hears one when the broker refuses the lost card."""
    lost = enrolled(home, device)
    key, token = new_key(), token_of(home, "pump-1")
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
    home: Home, device: Callable[..., Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that was lost asks at the very moment at which the new one does."""
    lost_token, entered, goes_on = token_of(home, "pump-1"), threading.Event(), threading.Event()
    certify, answers = Home.certify, []

    def slow(home: Home, name: str, key: ec.EllipticCurvePublicKey) -> bytes:
        if not entered.is_set():
            entered.set()
            goes_on.wait(PATIENCE_S)
        return certify(home, name, key)

    monkeypatch.setattr(Home, "certify", slow)
    keys = [new_key(), new_key()]
    first = threading.Thread(target=lambda: answers.append(device().enrol("pump-1", lost_token, keys[0])))
    first.start()
    assert entered.wait(PATIENCE_S)
    new_token = token_of(home, "pump-1")
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
    home: Home, device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    key = new_key()
    assert device().enrol("pump-1", token_of(home, "pump-1"), key).status == 200
    answer = device().enrol("pump-2", token_of(home, "pump-2"), key)
    assert (answer.status, answer.reason) == (403, "this key is somebody else's")
    assert "the key in the CSR is pump-1's" in caplog.text


# --------------------------------------------------------------------------------------------------------- renewal


def enrolled(home: Home, device: Callable[..., Device], node: str = "pump-1") -> Identity:
    key = new_key()
    return Identity.of(key, device().enrol(node, token_of(home, node), key).body["certificate"].encode())


def test_a_certificate_is_renewed_by_the_present_one_which_stays_good(
    home: Home, device: Callable[..., Device]
) -> None:
    present, key = enrolled(home, device), new_key()
    answer = device(present).renew(key)
    assert answer.status == 200, answer
    renewed = Identity.of(key, answer.body["certificate"].encode())
    assert renewed.certificate.serial_number != present.certificate.serial_number
    assert is_let_in(home, renewed)
    assert is_let_in(home, present)


def test_a_renewal_whose_answer_was_lost_is_given_again(home: Home, device: Callable[..., Device]) -> None:
    present, key = enrolled(home, device), new_key()
    first = device(present).renew(key)
    assert device(present).renew(key) == first
    renewed = Identity.of(key, first.body["certificate"].encode())
    again = device(renewed).renew(key)
    assert again.status == 200
    assert again != first, "a device that keeps its key is given a new certificate, too"
    assert is_let_in(home, present) is False, "it uses a newer one"


def test_of_renewals_at_once_the_newest_is_left_once_it_is_used_and_each_works_until_then(
    home: Home, device: Callable[..., Device]
) -> None:
    present, keys = enrolled(home, device), [new_key(), new_key()]
    made = [Identity.of(key, device(present).renew(key).body["certificate"].encode()) for key in keys]
    assert all(is_let_in(home, each) for each in (present, *made)), "any of them may be the one that has come"
    key = new_key()
    last = Identity.of(key, device(made[1]).renew(key).body["certificate"].encode())
    assert [is_let_in(home, each) for each in (present, *made, last)] == [False, False, True, True]
    assert device(made[0]).renew(new_key()).status == 403
    assert device(last).renew(new_key()).status == 200
    assert [is_let_in(home, each) for each in (made[1], last)] == [False, True]


def test_a_renewal_does_not_wait_for_a_broker_that_does_not_hear(
    home: Home, device: Callable[..., Device], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    present, key = enrolled(home, device), new_key()
    renewed = Identity.of(key, device(present).renew(key).body["certificate"].encode())
    with monkeypatch.context() as patch:
        patch.setattr("fleet.serve.desk.reload", broken)
        key = new_key()
        assert device(renewed).renew(key).status == 200
    assert "pump-1: the broker has not heard what was called back" in caplog.text
    assert is_let_in(home, present)
    assert device(renewed).renew(key).status == 200
    assert not is_let_in(home, present), "told again"


def test_nobody_renews_without_a_certificate_or_in_anothers_name(home: Home, device: Callable[..., Device]) -> None:
    present = enrolled(home, device)
    assert device().renew(new_key()).status == 401
    answer = device(present).renew(new_key(), node="pump-2")
    assert (answer.status, "allowed is the common name 'pump-1' alone" in answer.reason) == (400, True)
    with home.operator() as operator:
        tool = Identity(operator.identity_file.read_bytes())
    assert device(tool).renew(new_key(), node=operator.name).status == 403


def test_who_was_revoked_renews_nothing(
    home: Home, device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    present = enrolled(home, device)
    token = token_of(home, "pump-1")
    revoke(home, "pump-1")
    answer = device(present).renew(new_key())
    assert (answer.status, "was revoked at" in answer.reason) == (403, True)
    assert "refused: pump-1: this certificate was revoked at" in caplog.text
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
    device: Callable[..., Device],
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
    home: Home, device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    """As the one that ends a revoked node's session."""
    enrolled(home, device)
    assert device(issue(home.issuing(), "pump-1", dt.timedelta(hours=1))).renew(new_key()).status == 401
    assert "is not in the registry" in caplog.text


# ------------------------------------------------------------------------------------------------ what is no request


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"{", {}, 400, "it is not JSON"),
        (b"[]", {}, 400, "(top level)"),
        ({"node": "pump-1", "token": "short", "csr": "x"}, {}, 400, "the request is wrong at: token, csr"),
        ({"node": "../pump", "token": "x" * 43, "csr": "x", "more": 1}, {}, 400, "node, csr, more"),
        (b" " * (MAX_REQUEST_BYTES + 1), {}, 413, "longer than"),
        (b"", {"Content-Length": "9" * 5000}, 413, "longer than"),
        (b"", {"Content-Length": "-1"}, 411, "does not say how long"),
    ],
)
def test_what_is_no_request_is_refused_and_no_secret_comes_back(
    device: Callable[..., Device], body: object, headers: dict[str, str], status: int, reason: str
) -> None:
    answer = device().post(ENROL_PATH, body, **headers)
    assert (answer.status, reason in answer.reason) == (status, True), answer
    assert "short" not in answer.reason


def test_there_is_nothing_else(device: Callable[..., Device]) -> None:
    assert device().post("/v1/other", {}).status == 404


def test_who_asks_too_often_waits(device: Callable[..., Device], caplog: pytest.LogCaptureFixture) -> None:
    answers = [device().enrol("pump-1", "x" * 43) for _ in range(11)]
    assert [answer.status for answer in answers] == [403] * 10 + [429]
    assert answers[-1].retry_after_s is not None
    assert 1 <= int(answers[-1].retry_after_s) <= 6
    assert "refused: too many requests" in caplog.text


def test_who_is_slow_is_hung_up_on(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.serve.endpoint._PATIENCE_S", 0.2)
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=PATIENCE_S) as silent:
        assert silent.recv(1) == b""


def test_a_brokers_certificate_that_ends_is_told(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    file = home.path / "broker/broker.pem"
    with Endpoint(home, "127.0.0.1", 0) as endpoint:
        endpoint.service_actions()
        assert "`fleet broker` renews it" not in caplog.text
        file.write_bytes(issue(home.issuing(), "broker", dt.timedelta(days=59), home.settings.server_names).pem)
        endpoint._looked_at_s = -math.inf
        endpoint.service_actions()
    assert "`fleet broker` renews it" in caplog.text


def test_a_fault_of_the_fleets_is_no_refusal(
    home: Home, device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    token = token_of(home, "pump-1")
    (home.path / "issuing/ca.key").rename(home.path / "away")
    key = new_key()
    answer = device().enrol("pump-1", token, key)
    assert (answer.status, answer.reason) == (503, "the fleet's own fault: try again later")
    assert "issuing/ca.key: cannot be read" in caplog.text
    (home.path / "away").rename(home.path / "issuing/ca.key")
    assert device().enrol("pump-1", token, key).status == 200


def test_the_command_serves_until_it_is_told_to_end(home: Home) -> None:
    words = [sys.executable, "-m", "fleet", "serve", "--home", str(home.path), "--bind", "127.0.0.1"]
    with subprocess.Popen(words, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "enrolment on 127.0.0.1" in process.stderr.readline()
            assert Device(home, home.settings.endpoint[1]).enrol("pump-1", token_of(home, "pump-1")).status == 200
        finally:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert "pump-1: enrolled, a certificate for 60 days" in process.stderr.read()


def test_no_token_is_in_the_log_or_in_the_registry(
    home: Home, device: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = token_of(home, "pump-1")
    device().enrol("pump-1", token)
    device().enrol("pump-1", token)
    assert "pump-1" in caplog.text
    assert token not in caplog.text
    assert token.encode() not in (home.path / "registry.sqlite").read_bytes()
