"""What the one-shot `init` makes: files that one service reads, and certificates that a real broker goes by."""

from __future__ import annotations

import datetime as dt
import io
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from psycopg2.extensions import parse_dsn

from compose.init.files import LIFE, RENEWED_BEFORE, Folder, kept_identity
from compose.init.issue import Secrets
from contract.hoststate import state_topic
from fleet.authority import Identity, issue, new_authority
from stack import ManagedProcess, free_port, wait_until
from stack.install import MOSQUITTO
from stack.process import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
FOLDERS = [volume.rpartition("/")[2] for volume in COMPOSE["services"]["init"]["volumes"]]
SUCCESS, NOT_AUTHORIZED = 0, 135


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("secrets")
    made(root)
    return root


def made(root: Path, mqtt_hosts: Sequence[str] = ()) -> list[str]:
    for name in FOLDERS:
        (root / name).mkdir(exist_ok=True)
    return list(Secrets(root, mqtt_hosts).make())


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_each_file_is_for_reading_only(root: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_file()}
    assert modes == {0o440}


def test_a_file_is_its_folders_groups(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root is of any group")
    os.chown(tmp_path, -1, 1883)
    Folder(tmp_path).write("secret", b"x")
    assert (tmp_path / "secret").stat().st_gid == 1883


def test_nothing_is_made_twice(tmp_path: Path) -> None:
    assert made(tmp_path)
    before = content(tmp_path)
    assert made(tmp_path) == []
    assert content(tmp_path) == before


def test_what_is_missing_is_made_again_and_only_that(tmp_path: Path) -> None:
    made(tmp_path)
    before = content(tmp_path)
    (tmp_path / "edge-2/identity.pem").unlink()
    (tmp_path / "mosquitto/health.pem").write_bytes(b"half a fi")
    assert made(tmp_path) == ["renewed mosquitto/health.pem for health", "issued edge-2/identity.pem for edge-2"]
    changed = {name for name, text in content(tmp_path).items() if before[name] != text}
    assert changed == {"edge-2/identity.pem", "mosquitto/health.pem"}


def test_a_new_name_of_the_broker_renews_its_certificate_alone(tmp_path: Path) -> None:
    made(tmp_path)
    assert made(tmp_path, ["broker.example", "192.0.2.7"]) == ["renewed mosquitto/server.pem for mosquitto"]
    assert made(tmp_path, ["broker.example", "192.0.2.7"]) == []


@pytest.mark.parametrize("left", [dt.timedelta(days=1), -dt.timedelta(days=1)])
def test_a_certificate_is_renewed_in_time(tmp_path: Path, left: dt.timedelta) -> None:
    ours = new_authority("ours", 2 * LIFE)
    Folder(tmp_path).write("edge.pem", issue(ours, "edge-1", RENEWED_BEFORE + left).pem)
    done = kept_identity(Folder(tmp_path), ours, "edge.pem", "edge-1")
    assert done == (None if left > dt.timedelta() else f"renewed {tmp_path.name}/edge.pem for edge-1")


def test_a_certificate_of_another_authority_is_replaced(tmp_path: Path) -> None:
    ours, other = new_authority("ours", 2 * LIFE), new_authority("ours", 2 * LIFE)
    Folder(tmp_path).write("edge.pem", issue(other, "edge-1", LIFE).pem)
    assert kept_identity(Folder(tmp_path), ours, "edge.pem", "edge-1") is not None


def test_passwords_are_long_and_none_serves_twice(root: Path) -> None:
    passwords = [
        (root / name).read_text().strip()
        for name in (
            "timescaledb/superuser.password",
            "grafana/admin.password",
            "grafana/reader.password",
            "jupyter/token",
            "migrations/writer.password",
            "migrations/maintainer.password",
            "simulators/exchange.key",
        )
    ]
    assert len(set(passwords)) == len(passwords)
    assert min(map(len, passwords)) >= 32


def test_connection_strings_name_the_role_that_a_service_needs(root: Path) -> None:
    users = {
        name: parse_dsn((root / name / "dsn").read_text().strip())["user"]
        for name in ("migrations", "stream", "maintenance", "jupyter", "reconcile")
    }
    assert users == {
        "migrations": "postgres",
        "stream": "headwater_writer",
        "maintenance": "headwater_maintainer",
        "jupyter": "headwater_reader",
        "reconcile": "headwater_reader",
    }


def test_keys_of_authorities_are_in_no_other_folder(root: Path) -> None:
    keys = {Identity(path.read_bytes()).key.private_numbers() for path in (root / "authority").glob("*.pem")}
    assert len(keys) == 2
    for path in root.glob("*/*.pem"):
        if path.parent.name != "authority" and b"PRIVATE KEY" in path.read_bytes():
            assert Identity(path.read_bytes()).key.private_numbers() not in keys


@pytest.mark.parametrize(("node", "status"), [("edge-9", 0), ("headwater-bridge", 2), ("a/b", 2), ("+", 2)])
def test_a_device_is_given_a_certificate_but_nobody_elses_name(root: Path, node: str, status: int) -> None:
    command = [sys.executable, "-m", "compose.init", "--secrets", str(root), "device", node]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == status, done.stderr
    if status == 0:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            assert archive.getnames() == ["ca.pem", "identity.pem"]
    else:
        assert b"Traceback" not in done.stderr


# ------------------------------------------------------------------------------- the broker as the compose file has it


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


def given(root: Path, node: str) -> Path:
    """A device's certificate, as the command gives it away."""
    with tarfile.open(fileobj=io.BytesIO(Secrets(root).device(node))) as archive:
        file = archive.extractfile("identity.pem")
        assert file is not None
        path = root.parent / f"{node}.pem"
        path.write_bytes(file.read())
    return path


def test_a_device_that_was_called_back_is_refused(broker: Broker, root: Path) -> None:
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
    assert made(root) == []
