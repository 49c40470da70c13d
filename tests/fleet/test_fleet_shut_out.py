"""A real Mosquitto on the fleet's files: whom it refuses, and whom it throws out when he is called back."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from fleet.authority import Identity, issue, new_authority, new_issuing
from fleet.broker import is_let_in
from fleet.errors import FleetError
from fleet.operators import OPERATORS
from fleet.revoking import revoke
from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.home import Home
    from fleet.settings import FleetSettings

TlsOf: TypeAlias = "Callable[[Identity], ssl.SSLContext]"

SUCCESS, NOBODY_LISTENS, TAKEN_OVER = 0, 16, 142
PATIENCE_S = 60.0
HOUR = dt.timedelta(hours=1)


def of_another_fleet(home: Home) -> Identity:
    """The same names, and keys of somebody else."""
    root = new_authority(f"{home.settings.name} root", HOUR, path_length=1)
    return issue(new_issuing(root, f"{home.settings.name} issuing", HOUR), "pump-1", HOUR)


def signed_by_a_device(home: Home) -> Identity:
    """A device's certificate is no authority's, whatever it signs."""
    device = home.issue("pump-1")
    return issue(device, "pump-2", HOUR)


def expired(home: Home) -> Identity:
    return issue(home.issuing(), "pump-1", dt.timedelta(seconds=-1))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (of_another_fleet, "unknown ca"),
        (signed_by_a_device, "unknown ca"),
        (expired, "certificate expired"),
    ],
)
def test_who_has_no_good_certificate_is_refused_and_hears_why(
    home: Home, context: TlsOf, made: Callable[[Home], Identity], reason: str
) -> None:
    home.add_node("pump-1", "plant")
    assert is_let_in(home, home.issue("pump-1"))
    assert not is_let_in(home, made(home))
    assert reason in refusal(home, context(made(home)))


def refusal(home: Home, tls: ssl.SSLContext) -> str:
    """What the log of who is refused says."""
    host, port = home.settings.broker.host, home.settings.broker.port
    with (
        pytest.raises(ssl.SSLError) as caught,
        socket.create_connection((host, port), timeout=PATIENCE_S) as plain,
        tls.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.recv(1)
    return str(caught.value)


def test_a_broker_that_is_not_the_fleets_is_told_from_one_that_refuses(home: Home) -> None:
    identity = home.issue("pump-1")
    (home.path / "root/ca.pem").write_bytes(new_authority("Test root", HOUR).certificate_pem)
    with pytest.raises(FleetError, match="is not the fleet's broker"):
        is_let_in(home, identity)


def test_revoke_ends_the_live_session_and_lets_nobody_back(
    home: Home, client: Callable[..., Any], context: TlsOf
) -> None:
    home.add_node("pump-1", "plant")
    home.add_node("pump-2", "plant")
    revoked, other = home.issue("pump-1"), client("pump-2")
    live = client("pump-1", revoked)
    done = revoke(home, "pump-1")
    assert (done.certificates, done.broker_told) == (1, True)
    assert wait_until(lambda: TAKEN_OVER in live.ended, timeout_s=PATIENCE_S), live.ended
    assert "certificate revoked" in refusal(home, context(revoked))
    assert other.ended == []


def test_a_session_of_tls_is_not_gone_on_with_after_a_revocation(home: Home, context: TlsOf) -> None:
    """Who resumes one shows no certificate again. Of TLS 1.3 Mosquitto resumes none."""
    home.add_node("pump-1", "plant")
    tls = context(home.issue("pump-1"))
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    is_resumed, session = shaken(home, tls)
    assert (is_resumed, shaken(home, tls, session)[0]) == (False, True)
    revoke(home, "pump-1")
    with pytest.raises(ssl.SSLError, match="certificate revoked"):
        shaken(home, tls, session)


def shaken(
    home: Home, tls: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bool | None, ssl.SSLSession | None]:
    """Whether a handshake has resumed that session, and its own."""
    host, port = home.settings.broker.host, home.settings.broker.port
    with (
        socket.create_connection((host, port), timeout=PATIENCE_S) as plain,
        tls.wrap_socket(plain, server_hostname=host, session=session) as connection,
    ):
        return connection.session_reused, connection.session


def test_revoke_ends_a_session_that_is_kept_for_who_is_away(home: Home, client: Callable[..., Any]) -> None:
    """A device that comes back as another one with its name hears nothing of what was meant for the first."""
    home.add_node("pump-1", "plant")
    operator, away = client(OPERATORS[0]), client("pump-1", keeps=True)
    away.subscribe("spBv1.0/plant/NCMD/pump-1")
    away.close()
    assert operator.publish("spBv1.0/plant/NCMD/pump-1") == SUCCESS
    revoke(home, "pump-1")
    home.add_node("pump-1", "plant")
    anew = client("pump-1", keeps=True)
    assert not anew.found_session


def test_an_operators_tool_is_thrown_out_and_the_next_one_is_let_in(
    home: Home, client: Callable[..., Any], context: TlsOf
) -> None:
    live, other = client(OPERATORS[0]), client("headwater-bridge")
    leaked = Identity((home.path / f"operator/{OPERATORS[0]}.pem").read_bytes())
    done = revoke(home, OPERATORS[0])
    assert (done.certificates, done.is_replaced, done.broker_told) == (1, True, True)
    assert wait_until(lambda: TAKEN_OVER in live.ended, timeout_s=PATIENCE_S), live.ended
    assert "certificate revoked" in refusal(home, context(leaked))
    assert other.ended == []
    assert client(OPERATORS[0]).publish("headwater/plant/desired/pump-1/config/config") == NOBODY_LISTENS


def test_revoke_without_a_broker_says_so(home: Home, fleet: Any) -> None:
    home.add_node("pump-1", "plant")
    home.issue("pump-1")
    fleet.broker.stop()
    done = revoke(home, "pump-1")
    assert (done.certificates, done.broker_told) == (1, False)
    assert home.registry.node("pump-1").revoked_at is not None


def test_a_broker_that_does_not_read_its_list_is_noticed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.registry.add_node("pump-1", "plant")
    home.issue("pump-1")
    monkeypatch.setattr("fleet.broker.reloading._READ_WITHIN_S", 0.3)
    deaf = replace(home, settings=with_broker(home.settings, reload=("true",)))
    with pytest.raises(FleetError, match="does not go by its files"):
        revoke(deaf, "pump-1")
    with pytest.raises(FleetError, match="reload: false ended with 1"):
        revoke(replace(home, settings=with_broker(home.settings, reload=("false",))), "pump-1")


def with_broker(settings: FleetSettings, **changed: object) -> FleetSettings:
    return settings.model_copy(update={"broker": settings.broker.model_copy(update=changed)})
