"""An operator who signs and publishes, and an agent that takes updates: whole, in this process, at a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt.enums import CallbackAPIVersion

from contract.archive import pack
from contract.config import read_config
from contract.topics import MessageType
from contract.update import CHUNK_BYTES, Desired, chunk_hashes, desired_topic, signed
from contract.update_news import UpdateNews
from edge.agent import Agent
from edge.config import AgentConfig
from edge.update.acceptance import Accepted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from stack import Mosquitto

GROUP = "updates"
NODE = "edge-1"


@dataclass
class Operator:
    """Signs with its key, and publishes as the fleet's roll-out does."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    client: paho.Client | None = None
    counter: int = 0

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def desire(self, content: bytes, **more: Any) -> Desired:
        """A state of this content, for the node, an hour long, counted on."""
        self.counter += 1
        chunk_bytes = more.pop("chunk_bytes", CHUNK_BYTES)
        digest, size, chunks = chunk_hashes(io.BytesIO(content), chunk_bytes)
        target = {"group": more.pop("group", GROUP), "node": more.pop("node", NODE)}
        defaults = {
            "kind": "config",
            "name": more.get("kind", "config"),
            "version": str(self.counter),
            "counter": self.counter,
            "unpacked_bytes": size,
            "expires_at": datetime.now(UTC) + timedelta(hours=1),
        }
        fixed = {"sha256": digest, "size": size, "chunk_bytes": chunk_bytes, "chunks": chunks, "target": target}
        return Desired.model_validate(defaults | fixed | more)

    def sign(self, desired: Desired) -> bytes:
        return signed(desired, self.key)

    def accepted(self, desired: Desired) -> Accepted:
        """As a node takes it."""
        return Accepted(desired, "digest", self.key.public_key())

    def publish(self, topic: str, payload: bytes) -> None:
        assert self.client is not None
        self.client.publish(topic, payload, qos=1, retain=True).wait_for_publish(10)

    def put_chunks(self, desired: Desired, content: bytes) -> None:
        for number in range(len(desired.chunks)):
            begin = number * desired.chunk_bytes
            self.publish(desired.chunk_topic(number), content[begin:][: desired.chunk_bytes])

    def roll_out(self, content: bytes, **more: Any) -> Desired:
        """Chunks first, then what asks for them."""
        desired = self.desire(content, **more)
        self.put_chunks(desired, content)
        self.send(desired)
        return desired

    def send(self, desired: Desired, payload: bytes | None = None) -> None:
        topic = desired_topic(GROUP, desired.target.node, desired.kind, desired.name)
        self.publish(topic, self.sign(desired) if payload is None else payload)


@pytest.fixture
def operator(broker: Mosquitto) -> Iterator[Operator]:
    client = paho.Client(CallbackAPIVersion.VERSION2, "operator", protocol=paho.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    yield Operator(client=client)
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def document(broker: Mosquitto, weather_api: tuple[Any, str], operator: Operator, tmp_path: Path) -> dict[str, Any]:
    """A configuration of one source that takes updates."""
    (tmp_path / "update.pem").write_bytes(operator.public_pem)
    return {
        "group": GROUP,
        "node": NODE,
        "state_dir": str(tmp_path / "state"),
        "clock": {"wait_s": 0},
        "drain_timeout_s": 0.2,
        "spool": {"max_bytes": 1 << 20},
        "mqtt": {"host": "127.0.0.1", "port": broker.port, "resend_after_s": 0.5, "resend_max_s": 2},
        "update": {"key_files": [str(tmp_path / "update.pem")], "confirm_s": 1.5, "retry_s": 0.2, "bytes_per_s": 1e9},
        "sources": [weather(weather_api[1])],
    }


def weather(url: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "rest",
        "name": "weather",
        "preset": "open-meteo",
        "limits": {},
        "interval_s": 0.05,
        "timeout_s": 1,
        "base_url": url,
        "latitude": 48,
        "longitude": 11,
        "only": ["temperature_2m"],
    } | more


@dataclass
class Node:
    """An agent at work, and what its bridge has heard of its updates."""

    agent: Agent
    bridge: Any

    def told(self, kind: str = "config", name: str | None = None) -> list[UpdateNews]:
        wanted = f"Update/{kind}/{name or kind}"
        messages = self.bridge.of_type(MessageType.NDATA)
        metrics = [metric for message in messages for metric in message.payload.metrics if metric.name == wanted]
        return [UpdateNews.from_metric(metric) for metric in metrics]

    def states(self, counter: int, kind: str = "config", name: str | None = None) -> list[str]:
        return [str(news.state) for news in self.told(kind, name) if news.counter == counter]


@dataclass
class Site:
    """A node's configuration, its operator, and the server that its source polls."""

    operator: Operator
    document: dict[str, Any]
    directory: Path
    served: list[Any]
    bridge: Any

    @property
    def path(self) -> Path:
        return self.directory / "edge.yaml"

    def text(self, **more: Any) -> bytes:
        """The configuration's, but for what is named."""
        return yaml.safe_dump(self.document | more).encode()

    def source(self, **more: Any) -> list[dict[str, Any]]:
        """Its one source, but for what is named."""
        return [self.document["sources"][0] | more]

    def left_behind(self) -> list[str]:
        """What lies beside the configuration and is not for people."""
        return sorted(path.name for path in self.directory.iterdir() if path.name.startswith("."))

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Node]:
        """The agent, by its file, while the context lasts; what it runs is told by then."""
        path = self.path
        agent = Agent(read_config(path, AgentConfig), lambda: read_config(path, AgentConfig), config_file=path)
        work = asyncio.create_task(agent.run())
        node = Node(agent, self.bridge)
        try:
            yield node
        finally:
            agent.stop()
            await work


@pytest.fixture
def site(
    broker: Mosquitto,
    operator: Operator,
    document: dict[str, Any],
    weather_api: tuple[Any, str],
    new_bridge: Callable[..., Any],
    tmp_path: Path,
) -> Site:
    found = Site(operator, document, tmp_path, weather_api[0].served, new_bridge(broker.port, GROUP))
    found.path.write_bytes(found.text())
    return found


@pytest.fixture(params=["path", "bomb"])
def evil_archive(request: pytest.FixtureRequest) -> tuple[bytes, str]:
    """An archive that reaches out of its directory, or is far larger than it says; and why it is refused."""
    name, size, why = {
        "path": ("../evil", 1, "its archive: '../evil': is no path inside"),
        "bomb": ("lib/bomb", 50 << 20, "its archive: lib/bomb: with it there are more than the 1000 bytes declared"),
    }[request.param]
    member, file = tarfile.TarInfo(name), io.BytesIO()
    member.size = size
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        tar.addfile(member, io.BytesIO(bytes(size)))
    return file.getvalue(), why


@pytest.fixture
def pack_files(tmp_path: Path) -> Callable[..., tuple[bytes, int]]:
    """The archive of files by name, and their bytes unpacked."""
    numbers = iter(range(1000))

    def make(files: dict[str, bytes | str]) -> tuple[bytes, int]:
        directory = tmp_path / f"packed-{next(numbers)}"
        for name, content in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        file = io.BytesIO()
        unpacked = pack(directory, file)
        return file.getvalue(), unpacked

    return make


@pytest.fixture
def operator_key() -> Operator:
    """An operator without a broker."""
    return Operator()
