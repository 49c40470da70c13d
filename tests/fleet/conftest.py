"""A device at the enrolment endpoint of a fleet whose broker runs, and clients of that broker."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contract.enrolment import ENROL_PATH, RENEW_PATH
from fleet.__main__ import main
from fleet.authority import Identity, new_request
from fleet.operators import OPERATORS
from fleet.serve import Endpoint
from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fleet.home import Home

PATIENCE_S = 60.0


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


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a fleet's directory is, or will be."""
    monkeypatch.setenv("HEADWATER_FLEET", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def made(place: Path) -> Path:
    """One that the command has made, whose broker does not run."""
    assert (
        main(["init", "--name", "Test", "--group", "plant", "--group", "annex", "--broker", "broker.example:8884"]) == 0
    )
    return place


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
    """Somebody at the endpoint, or at another one's port."""
    return lambda identity=None, port=None: Device(home, port or endpoint.port, identity)


@pytest.fixture
def token_of(home: Home) -> Callable[[str], str]:
    """A new token of a node's, which is made known."""

    def made(node: str) -> str:
        home.registry.add_node(node, "plant")
        token = home.enrolment_for(node).enrolment.token
        assert token is not None
        return token.get_secret_value()

    return made


@pytest.fixture
def enrolled(device: Callable[..., Device], token_of: Callable[[str], str]) -> Callable[[], Identity]:
    """A new identity of pump-1's, as a device gets it."""

    def made() -> Identity:
        key = new_key()
        return Identity.of(key, device().enrol("pump-1", token_of("pump-1"), key).body["certificate"].encode())

    return made


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
def context(home: Home) -> Callable[[Identity], ssl.SSLContext]:
    """TLS with somebody's identity."""

    def made(identity: Identity) -> ssl.SSLContext:
        file = home.path / "someone.pem"
        file.write_bytes(identity.pem)
        found = ssl.create_default_context(cafile=home.path / "root/ca.pem")
        found.load_cert_chain(file)
        return found

    return made


@pytest.fixture
def client(home: Home, context: Callable[[Identity], ssl.SSLContext]) -> Iterator[Callable[..., Client]]:
    """Connects as a node or another with an identity, or as an operator's tool."""
    clients = []

    def connect(name: str, identity: Identity | None = None, **more: Any) -> Client:
        if name in OPERATORS:
            with home.operator() as operator:
                clients.append(Client(home, operator.tls(), **more))
        else:
            clients.append(Client(home, context(identity or home.issue(name)), **more))
        return clients[-1]

    yield connect
    for one in clients:
        one.close()
