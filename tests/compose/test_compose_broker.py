"""The broker as the compose file has it: who comes in with which certificate, and what they may do there."""

from __future__ import annotations

import datetime as dt
import io
import os
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from compose.init.files import LIFE
from compose.init.issue import BRIDGES, OPERATOR, Secrets
from contract.hoststate import state_topic
from fleet.authority import issue, new_authority
from fleet.broker.files import rights_of_host, rights_of_node, rights_of_operator
from fleet.registry import Node
from stack import ManagedProcess, free_port, wait_until
from stack.install import MOSQUITTO
from stack.process import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
SUCCESS, NOBODY, NOT_AUTHORIZED = 0, 16, 135


@dataclass(frozen=True)
class Broker:
    port: int
    process: ManagedProcess


@pytest.fixture(scope="module")
def broker(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Mosquitto with the compose file's own configuration and ACL."""
    directory, port = tmp_path_factory.mktemp("mosquitto"), free_port()
    text = (ROOT / "compose/mosquitto/mosquitto.conf").read_text()
    for old, new in (
        ("listener 8883", f"listener {port} 127.0.0.1"),
        ("/secrets/", f"{root / 'mosquitto'}/"),
        ("/mosquitto/config/acl", str(ROOT / "compose/mosquitto/acl")),
        ("/mosquitto/data/", f"{directory}/"),
    ):
        assert old in text
        text = text.replace(old, new)
    config = directory / "mosquitto.conf"
    config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
    process = ManagedProcess("mosquitto", Command([str(MOSQUITTO), "-c", str(config)]), log_path=directory / "log")
    process.start()
    try:
        process.wait_ready(lambda: "running" in process.log_tail(), timeout_s=10)
        yield Broker(port, process)
    finally:
        process.stop()


class Client:
    """An MQTT 5 client with a certificate, or without one."""

    def __init__(self, port: int, identity: Path | None, ca: Path, client_id: str = "whatever") -> None:
        self.heard: list[str] = []
        self.connected: list[int] = []
        self._acks: dict[int, int] = {}
        self._done = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        context = ssl.create_default_context(cafile=ca)
        if identity is not None:
            context.load_cert_chain(identity)
        self._client.tls_set_context(context)
        self._client.on_connect = lambda *words: (self.connected.append(words[3].value), self._done.set())
        self._client.on_subscribe = lambda *_: self._done.set()
        self._client.on_message = lambda _client, _userdata, message: self.heard.append(message.topic)
        self._client.on_publish = self._published
        self._client.connect("localhost", port)
        self._client.loop_start()
        self._waited()

    def _published(self, _client: object, _userdata: object, mid: int, reason: mqtt.ReasonCode, _more: object) -> None:
        self._acks[mid] = reason.value
        self._done.set()

    def _waited(self) -> None:
        assert self._done.wait(10)
        self._done.clear()

    def publish(self, topic: str, *, retain: bool = False) -> int:
        """The reason code that the broker answers."""
        mid = self._client.publish(topic, b"x", qos=1, retain=retain).mid
        assert wait_until(lambda: mid in self._acks, timeout_s=10)
        self._done.clear()
        return self._acks[mid]

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, qos=1)
        self._waited()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()


@pytest.fixture
def client(broker: Broker, root: Path) -> Iterator[Callable[[str], Client]]:
    """Connects with a certificate below the secrets."""
    clients = []

    def connect(identity: str) -> Client:
        clients.append(Client(broker.port, root / identity, root / "edge-1/ca.pem"))
        return clients[-1]

    yield connect
    for one in clients:
        one.close()


def test_a_node_writes_only_as_itself(client: Callable[[str], Client]) -> None:
    bridge, node = client("bridge/headwater-bridge.pem"), client("edge-1/identity.pem")
    bridge.subscribe("spBv1.0/#")
    for kind in ("NBIRTH", "NDATA", "NDEATH"):
        assert node.publish(f"spBv1.0/demo/{kind}/edge-1") == SUCCESS
        assert node.publish(f"spBv1.0/demo/{kind}/edge-2") == NOT_AUTHORIZED
        assert node.publish(f"spBv1.0/other/{kind}/edge-1") == NOT_AUTHORIZED
    for kind in ("DBIRTH", "DDATA", "DDEATH"):
        assert node.publish(f"spBv1.0/demo/{kind}/edge-1/line-a") == SUCCESS
        assert node.publish(f"spBv1.0/demo/{kind}/edge-2/line-a") == NOT_AUTHORIZED
    for topic in ("spBv1.0/demo/NCMD/edge-1", "spBv1.0/demo/NCMD/edge-2", "spBv1.0/STATE/x", "anything"):
        assert node.publish(topic) == NOT_AUTHORIZED
    assert wait_until(lambda: len(bridge.heard) >= 6, timeout_s=5)
    assert {topic.split("/")[3] for topic in bridge.heard} == {"edge-1"}


def test_a_node_hears_its_own_commands_alone(client: Callable[[str], Client]) -> None:
    bridge, one, two = (client(f"{name}.pem") for name in ("bridge/headwater-bridge", *NODES_OF_TWO))
    one.subscribe("spBv1.0/#")
    two.subscribe("spBv1.0/demo/NCMD/edge-2")
    assert bridge.publish("spBv1.0/demo/NCMD/edge-2") == SUCCESS
    assert bridge.publish("spBv1.0/demo/NCMD/edge-1") == SUCCESS
    assert wait_until(lambda: bool(two.heard and one.heard), timeout_s=5)
    assert (one.heard, two.heard) == (["spBv1.0/demo/NCMD/edge-1"], ["spBv1.0/demo/NCMD/edge-2"])


NODES_OF_TWO = ("edge-1/identity", "edge-2/identity")


def test_a_bridge_says_that_it_is_there_and_nothing_in_a_nodes_name(client: Callable[[str], Client]) -> None:
    bridge, node = client("bridge/headwater-bridge.pem"), client("edge-1/identity.pem")
    node.subscribe(state_topic("headwater-bridge"))
    assert bridge.publish(state_topic("headwater-bridge"), retain=True) == SUCCESS
    assert bridge.publish(state_topic("headwater-bridge-2"), retain=True) == NOT_AUTHORIZED
    assert bridge.publish("spBv1.0/demo/NDATA/edge-1") == NOT_AUTHORIZED
    late = client("edge-2/identity.pem")
    late.subscribe(state_topic("headwater-bridge"))
    assert wait_until(lambda: bool(node.heard and late.heard), timeout_s=5)
    assert node.heard == late.heard == [state_topic("headwater-bridge")]


def test_a_node_hears_what_it_shall_run_and_tells_its_own_log(
    client: Callable[[str], Client], operator: Client
) -> None:
    node = client("edge-1/identity.pem")
    node.subscribe("headwater/#")
    operator.subscribe("headwater/+/log/+")
    not_its_own = ("headwater/demo/desired/edge-2/model/x", "headwater/other/blob/abc/0")
    heard = [f"headwater/demo/{topic}" for topic in ("desired/edge-1/model/x", "desired/*/model/x", "blob/abc/0")]
    for topic in (*not_its_own, *heard):
        assert operator.publish(topic) in (SUCCESS, NOBODY)
        assert node.publish(topic) == NOT_AUTHORIZED
    assert node.publish("headwater/demo/log/edge-2") == NOT_AUTHORIZED
    assert node.publish("headwater/demo/log/edge-1") == SUCCESS
    assert wait_until(lambda: bool(operator.heard) and len(node.heard) >= len(heard), timeout_s=60)
    assert (operator.heard, node.heard) == (["headwater/demo/log/edge-1"], heard)


@pytest.fixture
def operator(client: Callable[[str], Client], root: Path) -> Client:
    return client(str(given(root, OPERATOR)))


def test_an_operator_says_nothing_in_a_nodes_name(operator: Client) -> None:
    assert operator.publish("spBv1.0/demo/NCMD/edge-1") in (SUCCESS, NOBODY)
    for topic in ("spBv1.0/demo/NDATA/edge-1", "headwater/demo/log/edge-1", "spBv1.0/STATE/headwater-operator"):
        assert operator.publish(topic) == NOT_AUTHORIZED


def test_fleets_commands_go_over_it(broker: Broker, root: Path) -> None:
    identity = str(given(root, OPERATOR))
    broker_of = ["--broker", f"localhost:{broker.port}", "--ca", str(root / "edge-1/ca.pem")]
    us = ["--cert", identity, "--key", identity]
    done = subprocess.run(
        [sys.executable, "-m", "fleet", "command", "demo/edge-9", "rebirth", *broker_of, *us],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "the node is not connected to the broker" in done.stderr) == (1, True), done.stderr


def test_everybody_may_do_what_a_fleets_broker_lets_them() -> None:
    rights: dict[str, set[tuple[str, ...]]] = {}
    user = "each node"
    for line in (ROOT / "compose/mosquitto/acl").read_text().splitlines():
        match line.split():
            case ["user", name]:
                user = name
            case ["pattern" | "topic", access, topic]:
                rights.setdefault(user, set()).add((access, topic))
    nodes = (Node("%u", group, dt.datetime.now(dt.UTC), None, None) for group in ("demo", "annex"))
    assert rights == {
        "each node": {right for node in nodes for right in rights_of_node(node).topics},
        **{name: set(rights_of_host(name).topics) for name in BRIDGES},
        OPERATOR: set(rights_of_operator(OPERATOR).topics),
        "health": {("read", "$SYS/broker/uptime")},
    }


def answered(port: int, ca: Path, identity: Path | None) -> bytes:
    """The first bytes that the broker says to who has that certificate, none where it hangs up."""
    context = ssl.create_default_context(cafile=ca)
    if identity is not None:
        context.load_cert_chain(identity)
    with socket.create_connection(("localhost", port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                # CONNECT of MQTT 3.1.1: a clean session, keep-alive 5 s, client id "x".
                connection.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x05\x00\x01x")
                return connection.recv(4)
        except (ssl.SSLError, ConnectionError):
            return b""


def test_without_a_certificate_of_ours_nobody_comes_in(broker: Broker, root: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.pem"
    forged.write_bytes(issue(new_authority("Headwater devices", LIFE), "edge-1", LIFE).pem)
    ca = root / "edge-1/ca.pem"
    assert answered(broker.port, ca, root / "edge-1/identity.pem") == b"\x20\x02\x00\x00"
    for identity in (None, forged, root / "bridge/kafka.pem"):
        assert answered(broker.port, ca, identity) == b""


def given(root: Path, name: str) -> Path:
    """A device's or operator's certificate, as the command gives it away."""
    with tarfile.open(fileobj=io.BytesIO(Secrets(root).given(name))) as archive:
        file = archive.extractfile("identity.pem")
        assert file is not None
        path = root.parent / f"{name}.pem"
        path.write_bytes(file.read())
    return path


def test_a_device_that_was_called_back_is_refused(broker: Broker, root: Path, make: Callable[..., list[str]]) -> None:
    ca, one, two = root / "edge-1/ca.pem", given(root, "pump-1"), given(root, "pump-2")
    assert answered(broker.port, ca, one) == answered(broker.port, ca, two) == b"\x20\x02\x00\x00"
    command = [sys.executable, "-m", "compose.init", "--secrets", str(root), "revoke", "pump-1"]
    done = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False) for _ in range(2)]
    assert [each.returncode for each in done] == [0, 1]
    assert "pump-1 was given no certificate that is still good" in done[1].stderr
    assert broker.process.pid is not None
    os.kill(broker.process.pid, signal.SIGHUP)
    assert wait_until(lambda: answered(broker.port, ca, one) == b"", timeout_s=10)
    assert answered(broker.port, ca, two) == b"\x20\x02\x00\x00"
    assert make(root) == []
