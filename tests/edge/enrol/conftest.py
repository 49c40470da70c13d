"""A fleet of a test's own: its authorities, and an endpoint over real TLS that says what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import secrets
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from contract.config import parse_config
from contract.enrolment import ENROL_PATH, RENEW_PATH, BrokerAddress, Enrolment, RenewRequest, written
from contract.topics import MessageType
from edge.agent import Agent
from edge.config import AgentConfig
from edge.enrol.certificate import certificate_request, new_key
from edge.enrol.directory import Identity, IdentityDirectory
from edge.enrol.endpoint import Endpoint
from edge.errors import IdentityError
from fleet.authority import Identity as Authority
from fleet.authority import certify, issue, key_digest, new_authority, new_issuing, requested_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

NODE = "pi-007"
GROUP = "identity"
YEAR = dt.timedelta(days=365)
UPDATE_KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"


@dataclass
class ScriptedFleet:
    """Issues as the real one does, as long as `answers` is empty: those go first, as (status, body, headers)."""

    directory: Path
    root: Authority = field(default_factory=lambda: new_authority("root", 10 * YEAR, path_length=1))
    life: dt.timedelta = YEAR
    tokens: dict[str, str | None] = field(default_factory=dict)
    answers: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    lost_answers: int = 0
    asked: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.issuing = new_issuing(self.root, "issuing", 9 * YEAR)
        self.server_identity = issue(self.issuing, "endpoint", YEAR, ["127.0.0.1"])
        self._server: ThreadingHTTPServer | None = None
        self._chains: dict[str, str] = {}

    @property
    def ca_pem(self) -> str:
        return self.root.certificate_pem.decode()

    def new_token(self) -> str:
        token = secrets.token_urlsafe(32)
        self.tokens[token] = None
        return token

    def enrolment(self, **more: Any) -> Enrolment:
        usual: dict[str, Any] = {
            "fleet": "test",
            "group": GROUP,
            "node": NODE,
            "broker": BrokerAddress(host="127.0.0.1", port=8883),
            "url": f"https://127.0.0.1:{self.port}",
            "ca_pem": self.ca_pem,
            "update_key": UPDATE_KEY,
        }
        return Enrolment(**(usual | more))

    def card(self, **more: Any) -> Path:
        """A card with a new token; or with another, or none."""
        path = self.directory / "etc" / "enrol.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(written(self.enrolment(**({"token": self.new_token()} | more))))
        path.chmod(0o600)
        return path

    def identity(self, life: dt.timedelta = YEAR, node: str = NODE, authority: Authority | None = None) -> Identity:
        """A new key, and a certificate for it, of this fleet or of another authority."""
        made = issue(authority or self.issuing, node, life)
        return Identity(self.enrolment(), made.key_pem.decode(), made.chain_pem.decode())

    def identity_from(self, not_before: dt.datetime, not_after: dt.datetime) -> Identity:
        """One whose certificate begins and ends as is said; a server of it will do, too."""
        key_pem = new_key()
        key = serialization.load_pem_private_key(key_pem.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        model = x509.load_pem_x509_certificate(certify(self.issuing, NODE, key.public_key(), YEAR, ["127.0.0.1"]))
        builder = (
            x509.CertificateBuilder()
            .subject_name(model.subject)
            .issuer_name(model.issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )
        for extension in model.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        signed = builder.sign(self.issuing.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return Identity(self.enrolment(), key_pem, (signed + self.issuing.certificate_pem).decode())

    def start(self) -> None:
        """Serves; on the port it had before, if it had one."""
        pem = self.directory / "endpoint.pem"
        pem.write_bytes(self.server_identity.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.ca_pem)
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="endpoint").start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str, body: dict[str, Any], peer: str | None) -> tuple[int, bytes, dict[str, str]]:
        self.asked.append((path, body, peer))
        if self.answers:
            return self.answers.pop(0)
        node = body["node"] if path == ENROL_PATH else peer
        if node is None or path not in {ENROL_PATH, RENEW_PATH}:
            return refusal(401, "show a certificate")
        key = requested_key(body["csr"].encode(), node)
        digest = key_digest(key)
        if path == ENROL_PATH:
            token = body["token"]
            if token not in self.tokens:
                return refusal(403, "the token is not known")
            if self.tokens[token] not in {None, digest}:
                return refusal(403, "the token was used already, for another key")
            self.tokens[token] = digest
        if digest not in self._chains:
            self._chains[digest] = certify(self.issuing, node, key, self.life).decode()
            self.issued.append(self._chains[digest])
        return 200, json.dumps({"certificate": self._chains[digest]}).encode(), {}


def refusal(status: int, reason: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    return status, json.dumps({"reason": reason}).encode(), headers


def _handler(fleet: ScriptedFleet) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            shown = self.connection.getpeercert()
            peer = next((value for ((key, value),) in shown["subject"] if key == "commonName"), None) if shown else None
            status, content, headers = fleet.answer(self.path, body, peer)
            if fleet.lost_answers:
                fleet.lost_answers -= 1
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler


@pytest.fixture
def new_fleet(tmp_path: Path) -> Iterator[Callable[..., ScriptedFleet]]:
    """Makes a fleet whose endpoint is served, unless the test does that itself."""
    fleets: list[ScriptedFleet] = []

    def make(*, served: bool = True, **more: Any) -> ScriptedFleet:
        directory = tmp_path / f"fleet-{len(fleets)}"
        directory.mkdir()
        fleet = ScriptedFleet(directory, **more)
        fleets.append(fleet)
        fleet.start()
        if not served:
            fleet.stop()
        return fleet

    yield make
    for fleet in fleets:
        fleet.stop()


@pytest.fixture
def scripted_fleet(new_fleet: Callable[..., ScriptedFleet]) -> ScriptedFleet:
    return new_fleet()


@pytest.fixture
def refused() -> Callable[..., tuple[int, bytes, dict[str, str]]]:
    """An answer that is a refusal: a status, a reason, and headers."""
    return refusal


@pytest.fixture
def identity_directory(tmp_path: Path) -> IdentityDirectory:
    return IdentityDirectory(tmp_path / "var" / "identity")


@dataclass
class Node:
    """An agent in this process, whose readings are numbered by the API that it polls."""

    api: Any
    url: str
    directory: IdentityDirectory
    state_dir: Path
    eventually: Callable[..., Any]
    group: str = GROUP

    @contextlib.asynccontextmanager
    async def running(self, host: str, port: int, **more: Any) -> AsyncIterator[Agent]:
        """Until the context ends, and what was polled is delivered."""
        agent = Agent(parse_config(self.document(host, port) | more, AgentConfig, "test"))
        work = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            agent.stop()
            async with asyncio.timeout(30):
                await work

    def document(self, host: str, port: int) -> dict[str, Any]:
        """Its configuration."""
        weather = {"type": "rest", "name": "weather", "preset": "open-meteo", "limits": {}, "interval_s": 0.05}
        place = {"base_url": self.url, "latitude": 48, "longitude": 11, "only": ["temperature_2m"]}
        return {
            "group": self.group,
            "node": NODE,
            "state_dir": str(self.state_dir),
            "clock": {"wait_s": 0},
            "identity": {"directory": str(self.directory.path)},
            "mqtt": {"host": host, "port": port, "resend_after_s": 0.5, "resend_max_s": 2},
            "sources": [weather | place],
        }

    def served(self) -> set[float]:
        """Every reading that there was to be had."""
        return {value for _, value in self.api.served}

    @staticmethod
    def delivered(bridge: Any) -> set[float]:
        """Every reading that a bridge has got."""
        data = bridge.of_type(MessageType.DDATA)
        return {m.value for message in data for m in message.payload.metrics if m.name == "temperature_2m"}


@pytest.fixture
def node(
    weather_api: tuple[Any, str],
    identity_directory: IdentityDirectory,
    tmp_path: Path,
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Node:
    """Its uplink tries again soon."""
    monkeypatch.setattr("edge.uplink.delivery._RETRY_CAP_S", 0.2)
    return Node(*weather_api, identity_directory, tmp_path / "state", eventually)


@pytest.fixture
def renew_once(identity_directory: IdentityDirectory) -> Callable[[Identity], str]:
    """Asks for a renewal, whatever the clock says; gives the reason why there is none."""

    def renew(identity: Identity) -> str:
        files = identity_directory.path / "cert.pem", identity_directory.path / "key.pem"
        endpoint = Endpoint(identity.enrolment.url, identity.enrolment.ca_pem, files)
        request = RenewRequest(csr=certificate_request(new_key(), NODE))
        with pytest.raises(IdentityError) as raised:
            asyncio.run(endpoint.ask(RENEW_PATH, request))
        return str(raised.value)

    return renew
