"""A broker of one's own, a scripted bridge, and a weather API that counts."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contract.datatypes import DataType
from contract.delivery import BatchStamp, DurableMark
from contract.errors import CodecError
from contract.sparkplug import REBIRTH, Metric, Payload, decode, encode
from contract.topics import UPSTREAM, MessageType, Topic, parse_topic
from stack import Mosquitto, free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whatever a test starts has ended with it."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("spool", "paho"))] == []


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Waits until a condition holds, and fails when it does not in time."""

    def wait(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not in {timeout_s:g} s: {what}"
            time.sleep(0.02)

    return wait


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """The same inside an event loop."""

    async def wait(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not in {timeout_s:g} s: {what}"
            await asyncio.sleep(0.02)

    return wait


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that a test may kill."""
    with Mosquitto(directory=tmp_path / "mosquitto") as server:
        yield server


@pytest.fixture
def closed_port() -> int:
    """Nobody listens there."""
    return free_port()


@dataclass(frozen=True)
class Received:
    topic: Topic
    payload: Payload
    stamp: BatchStamp | None
    qos: int
    at_s: float


@dataclass
class ScriptedBridge:
    """What the real bridge does to a node, without Kafka: it answers batches with the mark, if it is told to."""

    port: int
    group: str
    answers: bool = True
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)
    through: dict[tuple[str, int], int] = field(default_factory=dict)
    _kept: dict[tuple[str, int], set[int]] = field(default_factory=dict)

    def start(self) -> None:
        """Connects with a persistent session; comes back by itself."""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"bridge-{self.group}", protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._on_message
        filters = [(f"spBv1.0/{self.group}/{kind}/#", 1) for kind in UPSTREAM]
        self._client.on_connect = lambda client, *_: client.subscribe(filters)
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.SessionExpiryInterval = 3600
        if self.tls is not None:
            self._client.tls_set_context(self.tls)
        host = "127.0.0.1" if self.tls is None else "localhost"
        self._client.connect(host, self.port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert subscribed.wait(10)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def command(self, node: str, payload: Payload) -> None:
        self.publish(str(Topic(self.group, MessageType.NCMD, node)), encode(payload))

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Anything at all, as whoever may write to a node can."""
        self._client.publish(topic, payload, qos=qos, retain=retain)

    def ask_rebirth(self, node: str) -> None:
        self.command(node, Payload(1, (Metric(REBIRTH, DataType.BOOLEAN, value=True, timestamp_ms=1),)))

    def of_type(self, message_type: MessageType) -> list[Received]:
        return [message for message in list(self.received) if message.topic.message_type is message_type]

    def batches(self) -> list[Received]:
        return [message for message in list(self.received) if message.stamp is not None]

    def batch_numbers(self) -> list[int]:
        return [message.stamp.batch.batch_no for message in self.batches() if message.stamp is not None]

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        topic = parse_topic(message.topic)
        stamp = BatchStamp.from_properties(getattr(message.properties, "UserProperty", []))
        try:
            payload = decode(bytes(message.payload))
        except CodecError:
            payload = Payload(0, ())
        self.received.append(Received(topic, payload, stamp, message.qos, time.monotonic()))
        if stamp is not None:
            self._take(topic, stamp)

    def _take(self, topic: Topic, stamp: BatchStamp) -> None:
        key = topic.node, stamp.batch.epoch
        kept = self._kept.setdefault(key, set())
        kept.add(stamp.batch.batch_no)
        through = max(self.through.get(key, 0), stamp.oldest - 1)
        while through + 1 in kept:
            through += 1
        self.through[key] = through
        if self.answers:
            self.command(topic.node, DurableMark(stamp.batch.epoch, through).to_payload(1))


@pytest.fixture
def new_bridge() -> Iterator[Callable[..., ScriptedBridge]]:
    """Makes a scripted bridge and starts it."""
    bridges: list[ScriptedBridge] = []

    def make(port: int, group: str, *, answers: bool = True, tls: ssl.SSLContext | None = None) -> ScriptedBridge:
        bridge = ScriptedBridge(port, group, answers, tls)
        bridge.start()
        bridges.append(bridge)
        return bridge

    yield make
    for bridge in bridges:
        bridge.stop()


class WeatherApi:
    """Answers like Open-Meteo, each time with a new temperature and a time a second later; remembers what it said."""

    def __init__(self) -> None:
        self.served: list[tuple[int, float]] = []
        self.fails = False
        self._at_s = int(time.time())

    def answer(self) -> bytes | None:
        if self.fails:
            return None
        self._at_s += 1
        temperature = float(len(self.served))
        self.served.append((self._at_s * 1000, temperature))
        current = {"time": self._at_s, "temperature_2m": temperature}
        return json.dumps({"current": current, "current_units": {"temperature_2m": "°C"}}).encode()


@pytest.fixture
def weather_api() -> Iterator[tuple[WeatherApi, str]]:
    """The API and its URL."""
    api = WeatherApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = api.answer()
            self.send_response(503 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_args: object) -> None:
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield api, f"http://127.0.0.1:{port}"


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
