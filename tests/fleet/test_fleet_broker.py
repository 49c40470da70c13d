"""A real Mosquitto on the files that the fleet makes: who is let in, and what each may do."""

from __future__ import annotations

import datetime as dt
import os
import pwd
import socket
import ssl
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet.authority import Identity, issue, new_authority, new_issuing
from fleet.broker import certificate_is_good, is_let_in, keep_files, reload, renew_certificate
from fleet.broker.witness import _may_write, has_read
from fleet.errors import FleetError
from fleet.founding import found
from fleet.operators import OPERATORS
from fleet.revoking import revoke
from fleet.settings import BrokerSettings, FleetSettings
from stack import Command, ManagedProcess, free_port, wait_until
from stack.install import MOSQUITTO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fleet.home import Home

SUCCESS, NOBODY_LISTENS, NOT_AUTHORIZED, TAKEN_OVER = 0, 16, 135, 142
PATIENCE_S = 10.0
HOUR = dt.timedelta(hours=1)


class Client:
    """An MQTT 5 client of the fleet's broker."""

    def __init__(self, home: Home, tls: ssl.SSLContext, client_id: str = "whatever", *, keeps: bool = False) -> None:
        self.heard: list[str] = []
        self.found_session = False
        self.ended: list[int] = []
        self._acks: dict[int, int] = {}
        self._done = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        self._client.tls_set_context(tls)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._done.set()
        self._client.on_message = lambda _client, _userdata, message: self.heard.append(message.topic)
        self._client.on_publish = lambda _client, _userdata, mid, reason, _more: self._acks.update({mid: reason.value})
        self._client.on_disconnect = lambda *words: self.ended.append(words[3].value)
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 3600 if keeps else 0
        where = home.settings.broker
        self._client.connect(where.host, where.port, clean_start=not keeps, properties=lasting)
        self._client.loop_start()
        self._waited()

    def _connected(self, _client: object, _userdata: object, flags: mqtt.ConnectFlags, *_more: object) -> None:
        self.found_session = flags.session_present
        self._done.set()

    def _waited(self) -> None:
        assert self._done.wait(PATIENCE_S)
        self._done.clear()

    def publish(self, topic: str, *, retain: bool = False) -> int:
        """The reason code that the broker answers."""
        return self.publish_all([topic], retain=retain)[0]

    def publish_all(self, topics: Sequence[str], *, retain: bool = False) -> list[int]:
        """The same of several."""
        mids = [self._client.publish(topic, b"x", qos=1, retain=retain).mid for topic in topics]
        assert wait_until(lambda: self._acks.keys() >= set(mids), timeout_s=PATIENCE_S)
        return [self._acks[mid] for mid in mids]

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, qos=1)
        self._waited()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()


@pytest.fixture
def home(fleet: Any) -> Home:
    found: Home = fleet.home
    return found


def context(home: Home, identity: Identity) -> ssl.SSLContext:
    file = home.path / "someone.pem"
    file.write_bytes(identity.pem)
    found = ssl.create_default_context(cafile=home.path / "root/ca.pem")
    found.load_cert_chain(file)
    return found


@pytest.fixture
def client(home: Home) -> Iterator[Callable[[str], Client]]:
    """Connects as a node, or as an operator's tool."""
    clients = []

    def connect(name: str) -> Client:
        if name in OPERATORS:
            with home.operator() as operator:
                clients.append(Client(home, operator.tls()))
        else:
            clients.append(Client(home, context(home, home.issue(name))))
        return clients[-1]

    yield connect
    for one in clients:
        one.close()


def test_a_node_writes_only_as_itself_and_in_its_own_group(home: Home, client: Callable[[str], Client]) -> None:
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


def test_a_node_hears_what_is_meant_for_it_and_nothing_else(home: Home, client: Callable[[str], Client]) -> None:
    home.add_node("pump-1", "plant")
    home.add_node("pump-2", "plant")
    operator, node = client(OPERATORS[0]), client("pump-1")
    node.subscribe("spBv1.0/#")
    node.subscribe("headwater/#")
    for name in ("pump-2", "pump-1"):
        assert operator.publish(f"spBv1.0/plant/NCMD/{name}") == SUCCESS
        assert operator.publish(f"headwater/plant/desired/{name}/config/agent", retain=True) == SUCCESS
    for group in ("annex", "plant"):
        assert operator.publish(f"headwater/{group}/desired/*/agent/agent", retain=True) == SUCCESS
        assert operator.publish(f"headwater/{group}/blob/ab12/0", retain=True) == SUCCESS
    meant = {
        "spBv1.0/plant/NCMD/pump-1",
        "headwater/plant/desired/pump-1/config/agent",
        "headwater/plant/desired/*/agent/agent",
        "headwater/plant/blob/ab12/0",
    }
    assert wait_until(lambda: len(node.heard) >= len(meant), timeout_s=PATIENCE_S)
    assert set(node.heard) == meant


def test_an_operator_says_nothing_in_a_nodes_name(home: Home, client: Callable[[str], Client]) -> None:
    home.add_node("pump-1", "plant")
    operator = client(OPERATORS[0])
    assert operator.publish("spBv1.0/plant/NDATA/pump-1") == NOT_AUTHORIZED
    assert operator.publish("spBv1.0/STATE/headwater-bridge", retain=True) == NOT_AUTHORIZED


def test_nobody_takes_over_anothers_session(home: Home, client: Callable[[str], Client]) -> None:
    home.add_node("pump-1", "plant")
    home.add_node("pump-2", "plant")
    victim = client("pump-1")
    thief = Client(home, context(home, home.issue("pump-2")), client_id="pump-1")
    try:
        assert thief.publish("spBv1.0/plant/NDATA/pump-2") == NOBODY_LISTENS
        assert victim.publish("spBv1.0/plant/NDATA/pump-1") == NOBODY_LISTENS
        assert victim.ended == []
    finally:
        thief.close()


# ------------------------------------------------------------------------------------------------------ who is let in


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
    home: Home, made: Callable[[Home], Identity], reason: str
) -> None:
    home.add_node("pump-1", "plant")
    assert is_let_in(home, home.issue("pump-1"))
    assert not is_let_in(home, made(home))
    assert reason in refusal(home, made(home))


def refusal(home: Home, identity: Identity) -> str:
    """What the log of who is refused says."""
    host, port = home.settings.broker.host, home.settings.broker.port
    with (
        pytest.raises(ssl.SSLError) as caught,
        socket.create_connection((host, port), timeout=PATIENCE_S) as plain,
        context(home, identity).wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.recv(1)
    return str(caught.value)


def test_a_broker_that_is_not_the_fleets_is_told_from_one_that_refuses(home: Home) -> None:
    identity = home.issue("pump-1")
    (home.path / "root/ca.pem").write_bytes(new_authority("Test root", HOUR).certificate_pem)
    with pytest.raises(FleetError, match="is not the fleet's broker"):
        is_let_in(home, identity)


def test_revoke_ends_the_live_session_and_lets_nobody_back(home: Home, client: Callable[[str], Client]) -> None:
    home.add_node("pump-1", "plant")
    home.add_node("pump-2", "plant")
    revoked, other = home.issue("pump-1"), client("pump-2")
    live = Client(home, context(home, revoked))
    try:
        done = revoke(home, "pump-1")
        assert (done.certificates, done.broker_told) == (1, True)
        assert wait_until(lambda: TAKEN_OVER in live.ended, timeout_s=PATIENCE_S), live.ended
        assert "certificate revoked" in refusal(home, revoked)
        assert other.ended == []
    finally:
        live.close()


def test_a_session_of_tls_is_not_gone_on_with_after_a_revocation(home: Home) -> None:
    """Who resumes one shows no certificate again. Of TLS 1.3 Mosquitto resumes none."""
    home.add_node("pump-1", "plant")
    tls = context(home, home.issue("pump-1"))
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


def test_revoke_ends_a_session_that_is_kept_for_who_is_away(home: Home, client: Callable[[str], Client]) -> None:
    """A device that comes back as another one with its name hears nothing of what was meant for the first."""
    home.add_node("pump-1", "plant")
    operator, away = client(OPERATORS[0]), Client(home, context(home, home.issue("pump-1")), keeps=True)
    away.subscribe("spBv1.0/plant/NCMD/pump-1")
    away.close()
    assert operator.publish("spBv1.0/plant/NCMD/pump-1") == SUCCESS
    revoke(home, "pump-1")
    home.add_node("pump-1", "plant")
    anew = Client(home, context(home, home.issue("pump-1")), keeps=True)
    try:
        assert not anew.found_session
    finally:
        anew.close()


def test_an_operators_tool_is_thrown_out_and_the_next_one_is_let_in(
    home: Home, client: Callable[[str], Client]
) -> None:
    live, other = client(OPERATORS[0]), client("headwater-bridge")
    leaked = Identity((home.path / f"operator/{OPERATORS[0]}.pem").read_bytes())
    done = revoke(home, OPERATORS[0])
    assert (done.certificates, done.is_replaced, done.broker_told) == (1, True, True)
    assert wait_until(lambda: TAKEN_OVER in live.ended, timeout_s=PATIENCE_S), live.ended
    assert "certificate revoked" in refusal(home, leaked)
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


def test_a_new_certificate_of_the_brokers_is_shown_at_once(home: Home) -> None:
    before = shown(home)
    named = with_broker(home.settings, names=("broker.example", "192.0.2.7"))
    assert certificate_is_good(home)
    assert not certificate_is_good(replace(home, settings=named))
    renew_certificate(replace(home, settings=named))
    keep_files(home)
    assert reload(home)
    assert shown(home) != before
    assert certificate_is_good(replace(home, settings=named))


def shown(home: Home) -> bytes:
    """The certificate that the broker shows."""
    host, port = home.settings.broker.host, home.settings.broker.port
    with (
        socket.create_connection((host, port), timeout=PATIENCE_S) as plain,
        context(home, home.issue("headwater-bridge")).wrap_socket(plain, server_hostname=host) as connection,
    ):
        found = connection.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_each_of_several_nodes_has_its_rights_when_it_is_known(home: Home, client: Callable[[str], Client]) -> None:
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
