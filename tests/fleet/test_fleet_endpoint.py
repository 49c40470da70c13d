"""The enrolment endpoint over real TLS: what is no request, how often one may ask, and what it says."""

from __future__ import annotations

import datetime as dt
import logging
import math
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from contract.enrolment import ENROL_PATH, MAX_REQUEST_BYTES
from fleet.authority import Identity, issue
from fleet.broker import is_let_in
from fleet.serve import Endpoint
from fleet.serve.limits import Limit
from fleet.settings import Lifetimes

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.home import Home

PATIENCE_S = 10.0


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


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
    device: Callable[..., Any], body: object, headers: dict[str, str], status: int, reason: str
) -> None:
    answer = device().post(ENROL_PATH, body, **headers)
    assert (answer.status, reason in answer.reason) == (status, True), answer
    assert "short" not in answer.reason


def test_there_is_nothing_else(device: Callable[..., Any]) -> None:
    assert device().post("/v1/other", {}).status == 404


def test_who_asks_too_often_waits(device: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    answers = [device().enrol("pump-1", "x" * 43) for _ in range(11)]
    assert [answer.status for answer in answers] == [403] * 10 + [429]
    assert answers[-1].retry_after_s is not None
    assert 1 <= int(answers[-1].retry_after_s) <= 6
    assert "refused: too many requests" in caplog.text


def test_what_one_is_refused_for_asking_too_often_counts_for_nobody_else(
    endpoint: Endpoint, device: Callable[..., Any]
) -> None:
    endpoint.everybody = Limit(1e-6, 11, lambda: 0.0)
    assert [device().post("/v1/other", {}).status for _ in range(14)] == [404] * 10 + [429] * 4
    assert endpoint.everybody.wait_s("everybody") == 0


def test_who_is_slow_is_hung_up_on(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.serve.endpoint._PATIENCE_S", 0.2)
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=PATIENCE_S) as silent:
        assert silent.recv(1) == b""


def test_what_handshakes_may_use_is_replaced_and_never_changed(home: Home) -> None:
    with Endpoint(home, "127.0.0.1", 0) as endpoint:
        in_use = endpoint._context
        endpoint.service_actions()
        assert endpoint._context is not in_use


def test_nobody_renews_before_a_device_would(
    home: Home, device: Callable[..., Any], enrolled: Callable[[], Identity]
) -> None:
    """Else who has a copy of its key could renew twice, which calls back what the device has."""
    present = enrolled()
    answer = device(present).renew(new_key())
    assert (answer.status, answer.reason) == (403, "pump-1: its certificate is not old enough to be renewed")
    assert is_let_in(home, present)


@pytest.mark.parametrize(("of_days", "late_days", "early_days"), [(397, 59, 61), (30, 9, 30)])
def test_a_bridges_certificate_that_ends_is_told(
    of_days: int, late_days: int, early_days: int, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    lifetimes = Lifetimes(server_days=of_days)
    home = replace(home, settings=home.settings.model_copy(update={"lifetimes": lifetimes}))
    home.add_host("headwater-bridge")
    with Endpoint(home, "127.0.0.1", 0) as endpoint:
        for days in (early_days, late_days, early_days):
            caplog.clear()
            home.issue("headwater-bridge", life=dt.timedelta(days=days))
            endpoint._looked_at_s = -math.inf
            endpoint.service_actions()
            assert ("`fleet host headwater-bridge` makes another" in caplog.text) == (days == late_days)


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
    home: Home, device: Callable[..., Any], caplog: pytest.LogCaptureFixture, token_of: Callable[[str], str]
) -> None:
    token = token_of("pump-1")
    (home.path / "issuing/ca.key").rename(home.path / "away")
    key = new_key()
    answer = device().enrol("pump-1", token, key)
    assert (answer.status, answer.reason) == (503, "the fleet's own fault: try again later")
    assert "issuing/ca.key: cannot be read" in caplog.text
    (home.path / "away").rename(home.path / "issuing/ca.key")
    assert device().enrol("pump-1", token, key).status == 200


def test_the_command_serves_until_it_is_told_to_end(
    home: Home, device: Callable[..., Any], token_of: Callable[[str], str]
) -> None:
    words = [sys.executable, "-m", "fleet", "serve", "--home", str(home.path), "--bind", "127.0.0.1"]
    with subprocess.Popen(words, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "enrolment on 127.0.0.1" in process.stderr.readline()
            assert device(port=home.settings.endpoint[1]).enrol("pump-1", token_of("pump-1")).status == 200
        finally:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert "pump-1: enrolled, a certificate for 60 days" in process.stderr.read()


def test_no_token_is_in_the_log_or_in_the_registry(
    home: Home, device: Callable[..., Any], caplog: pytest.LogCaptureFixture, token_of: Callable[[str], str]
) -> None:
    caplog.set_level(logging.DEBUG)
    token = token_of("pump-1")
    device().enrol("pump-1", token)
    device().enrol("pump-1", token)
    assert "pump-1" in caplog.text
    assert token not in caplog.text
    assert token.encode() not in (home.path / "registry.sqlite").read_bytes()
