"""A real Mosquitto on the files that the fleet makes: what each may do there, and when it goes by new ones."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from fleet.broker import certificate_is_good, is_let_in, keep_files, reload, renew_certificate
from fleet.broker.witness import _may_write, has_read
from fleet.errors import FleetError
from fleet.founding import found
from fleet.operators import OPERATORS
from fleet.settings import BrokerSettings, FleetSettings
from stack import Command, ManagedProcess, free_port, wait_until
from stack.install import MOSQUITTO

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from fleet.home import Home

SUCCESS, NOBODY_LISTENS, NOT_AUTHORIZED = 0, 16, 135
PATIENCE_S = 60.0


def test_a_node_writes_only_as_itself_and_in_its_own_group(home: Home, client: Callable[..., Any]) -> None:
    for name, group in (("pump-1", "plant"), ("pump-2", "plant"), ("tank-1", "annex")):
        home.add_node(name, group)
    home.add_host("headwater-bridge")
    bridge, node = client("headwater-bridge"), client("pump-1")
    bridge.subscribe("spBv1.0/#")
    own, others = topics_of("plant", "pump-1"), [*topics_of("plant", "pump-2"), *topics_of("annex", "pump-1")]
    others += ["spBv1.0/plant/NCMD/pump-1", "spBv1.0/STATE/x", "headwater/plant/desired/pump-1/config/a", "anything"]
    assert node.publish_all(own) == [SUCCESS] * len(own)
    assert node.publish_all(others) == [NOT_AUTHORIZED] * len(others)
    assert node.ended == []
    assert wait_until(lambda: len(bridge.heard) >= len(own), timeout_s=PATIENCE_S)
    assert set(bridge.heard) == set(own)


def topics_of(group: str, node: str) -> list[str]:
    """Where a node tells of itself and of its devices."""
    nodes = [f"spBv1.0/{group}/{kind}/{node}" for kind in ("NBIRTH", "NDATA", "NDEATH")]
    return nodes + [f"spBv1.0/{group}/{kind}/{node}/line-a" for kind in ("DBIRTH", "DDATA", "DDEATH")]


def test_a_node_hears_what_is_meant_for_it_and_nothing_else(home: Home, client: Callable[..., Any]) -> None:
    home.add_node("pump-1", "plant")
    home.add_node("pump-2", "plant")
    operator, node = client(OPERATORS[0]), client("pump-1")
    node.subscribe("spBv1.0/#")
    node.subscribe("headwater/#")
    for name in ("pump-2", "pump-1"):
        assert operator.publish(f"spBv1.0/plant/NCMD/{name}") == SUCCESS
        assert operator.publish(f"headwater/plant/desired/{name}/config/config", retain=True) == SUCCESS
        assert operator.publish(f"headwater/plant/desired/{name}/blob/ab12/0", retain=True) == SUCCESS
    for group in ("annex", "plant"):
        assert operator.publish(f"headwater/{group}/desired/*/agent/agent", retain=True) == SUCCESS
        assert operator.publish(f"headwater/{group}/blob/ab12/0", retain=True) == SUCCESS
    home.add_host("headwater-bridge")
    assert client("headwater-bridge").publish("spBv1.0/STATE/headwater-bridge", retain=True) == SUCCESS
    meant = {
        "spBv1.0/STATE/headwater-bridge",
        "spBv1.0/plant/NCMD/pump-1",
        "headwater/plant/desired/pump-1/config/config",
        "headwater/plant/desired/pump-1/blob/ab12/0",
        "headwater/plant/desired/*/agent/agent",
        "headwater/plant/blob/ab12/0",
    }
    assert wait_until(lambda: len(node.heard) >= len(meant), timeout_s=PATIENCE_S)
    assert set(node.heard) == meant


def test_the_broker_starts_and_reads_anew_without_a_word_of_warning(home: Home, tmp_path: Path) -> None:
    home.add_node("pump-1")
    home.add_host("headwater-bridge")
    lines = (tmp_path / "mosquitto.log").read_text().splitlines()
    assert any("running" in line for line in lines)
    # As who it runs is the test's own matter.
    lines = [line for line in lines if "should not be run as root" not in line]
    assert [line for line in lines if "Warning" in line or "Note" in line] == []


def test_an_operator_says_nothing_in_a_nodes_name(home: Home, client: Callable[..., Any]) -> None:
    home.add_node("pump-1", "plant")
    operator = client(OPERATORS[0])
    assert operator.publish("spBv1.0/plant/NDATA/pump-1") == NOT_AUTHORIZED
    assert operator.publish("spBv1.0/STATE/headwater-bridge", retain=True) == NOT_AUTHORIZED


def test_nobody_takes_over_anothers_session(home: Home, client: Callable[..., Any]) -> None:
    home.add_node("pump-1", "plant")
    home.add_node("pump-2", "plant")
    victim = client("pump-1")
    thief = client("pump-2", client_id="pump-1")
    assert thief.publish("spBv1.0/plant/NDATA/pump-2") == NOBODY_LISTENS
    assert victim.publish("spBv1.0/plant/NDATA/pump-1") == NOBODY_LISTENS
    assert victim.ended == []


def with_broker(settings: FleetSettings, **changed: object) -> FleetSettings:
    return settings.model_copy(update={"broker": settings.broker.model_copy(update=changed)})


def test_a_new_certificate_of_the_brokers_is_shown_at_once(home: Home, context: Callable[..., Any]) -> None:
    tls = context(home.issue("headwater-bridge"))
    before = shown(home, tls)
    named = with_broker(home.settings, names=("broker.example", "192.0.2.7"))
    assert certificate_is_good(home)
    assert not certificate_is_good(replace(home, settings=named))
    renew_certificate(replace(home, settings=named))
    keep_files(home)
    assert reload(home)
    assert shown(home, tls) != before
    assert certificate_is_good(replace(home, settings=named))


def shown(home: Home, tls: ssl.SSLContext) -> bytes:
    """The certificate that the broker shows."""
    host, port = home.settings.broker.host, home.settings.broker.port
    with (
        socket.create_connection((host, port), timeout=PATIENCE_S) as plain,
        tls.wrap_socket(plain, server_hostname=host) as connection,
    ):
        found = connection.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_each_of_several_nodes_has_its_rights_when_it_is_known(home: Home, client: Callable[..., Any]) -> None:
    """Mosquitto forgets a SIGHUP that comes while it reads for the one before."""
    names = [f"pump-{number}" for number in range(6)]
    threads = [threading.Thread(target=home.add_node, args=[name], name=name) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {client(name).publish(f"spBv1.0/plant/NDATA/{name}") for name in names} == {NOBODY_LISTENS}


def test_a_broker_that_root_starts_reads_what_its_owner_alone_may_read(tmp_path: Path) -> None:
    """Mosquitto gives root's rights up at once, for those of an account that has none here."""
    broker = BrokerSettings(host="localhost", port=free_port())
    settings = FleetSettings(name="Test", groups=("plant",), broker=broker, url=f"https://localhost:{free_port()}")
    home = found(tmp_path / "home", settings)
    config = home.path / "broker/mosquitto.conf"
    owner = pwd.getpwuid(os.geteuid()).pw_name
    assert f"user {owner}\n" in config.read_text()
    process = ManagedProcess(
        "mosquitto", Command([str(MOSQUITTO), "-c", str(config)]), log_path=tmp_path / "mosquitto.log"
    )
    process.start()
    try:
        process.wait_ready(lambda: "running" in process.log_tail(), timeout_s=60)
        assert is_let_in(home, home.issue("pump-1"))
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("changed", "user"),
    [({"user": "mosquitto"}, "mosquitto"), ({"directory": Path("/etc/mosquitto/fleet")}, None)],
    ids=["said", "elsewhere"],
)
def test_whoever_runs_the_broker_may_be_said_and_is_not_guessed_elsewhere(
    tmp_path: Path, changed: dict[str, object], user: str | None
) -> None:
    broker = BrokerSettings.model_validate({"host": "localhost", **changed})
    home = found(tmp_path / "home", FleetSettings(name="Test", groups=("plant",), broker=broker, url="https://b:1"))
    lines = (home.path / "broker/mosquitto.conf").read_text().splitlines()
    assert [line for line in lines if line.startswith("user ")] == ([] if user is None else [f"user {user}"])


@pytest.mark.parametrize("answer", [b"\x20\x00", b"\x20\x01\x00", b"\x20\x02\x00\x84", b"\x40\x02\x00\x00"])
def test_a_broker_that_answers_nonsense_is_an_error_of_one_line(answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        with pytest.raises(FleetError, match="does not take the fleet's own witness"):
            _may_write(cast("ssl.SSLSocket", ours), b"headwater/files/0")


def test_an_acl_of_somebody_elses_is_told(home: Home) -> None:
    (home.path / "broker/acl").write_bytes(b"user \xff\ntopic read #\n")
    with pytest.raises(FleetError, match="broker/acl: is not as the fleet writes it: `fleet broker` writes it anew"):
        has_read(home)


def test_files_are_written_when_they_change_and_only_then(home: Home) -> None:
    keep_files(home)
    assert keep_files(home) == []
    home.registry.add_node("pump-1", "plant")
    assert [path.name for path in keep_files(home)] == ["acl"]
    home.issue("pump-1")
    home.registry.revoke("pump-1")
    assert [path.name for path in keep_files(home)] == ["crl.pem", "acl"]


def test_operators_tools_have_a_name_each(home: Home) -> None:
    with home.operator() as first, home.operator() as second:
        assert (first.name, second.name) == OPERATORS[:2]
    with home.operator() as third:
        assert third.name == OPERATORS[0]
    with ExitStack() as stack:
        for _ in OPERATORS:
            stack.enter_context(home.operator())
        with pytest.raises(FleetError, match="16 tools are at work"):
            stack.enter_context(home.operator())


def test_a_broker_whose_pid_file_another_one_has_deleted_is_not_taken_for_none(
    fleet: Any, caplog: pytest.LogCaptureFixture
) -> None:
    home, files = fleet.home, fleet.home.path / "broker"
    second = subprocess.run([MOSQUITTO, "-c", files / "mosquitto.conf"], check=False, capture_output=True)
    assert second.returncode
    assert not (files / "mosquitto.pid").exists()
    assert reload(home)
    assert "cannot be told of the next change" in caplog.text
    with pytest.raises(FleetError, match=r"older files.*mosquitto.pid does not name it.*start the broker again"):
        home.add_node("pump-1")
    fleet.broker.stop()
    assert not reload(home)
