"""An agent in a fleet with a valve on a Modbus line; and a node of somebody else's, as a script has it."""

from __future__ import annotations

import os
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from contract.sparkplug import Metric, Payload, decode, encode
from contract.topics import MessageType, Topic
from fleet.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stack import Mosquitto

ROOT = Path(__file__).parents[3]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; its exit code, what it printed and what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


class Valve(socketserver.BaseRequestHandler):
    """A Modbus unit with one register, which function 3 reads and 6 writes."""

    def handle(self) -> None:
        while header := self.request.recv(7):
            length = struct.unpack(">HHHB", header)[2]
            function, _, value = struct.unpack(">BHH", self.request.recv(length - 1)[:5])
            if function == 6:
                self.server.held = value  # type: ignore[attr-defined]  # set below
            held = struct.pack(">H", self.server.held)  # type: ignore[attr-defined]  # as above
            pdu = b"\x03\x02" + held if function == 3 else b"\x06\0\0" + held
            self.request.sendall(header[:4] + struct.pack(">HB", len(pdu) + 1, header[6]) + pdu)


@pytest.fixture
def valve() -> Iterator[Any]:
    """The unit's server; `held` is what its register holds."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Valve) as server:
        server.daemon_threads = True
        server.held = 7  # type: ignore[attr-defined]  # the handler's
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class AgentAtWork:
    """An agent that is connected; `restart` starts it anew."""

    log: Path
    restart: Callable[[], None]


@pytest.fixture
def bridge(fleet: Any, tmp_path: Path) -> Iterator[paho.Client]:
    """Somebody who takes what nodes say: without, they send their births again and again."""
    fleet.home.add_host("headwater-bridge")
    identity = tmp_path / "bridge.pem"
    identity.write_bytes(fleet.home.issue("headwater-bridge").pem)
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    context = ssl.create_default_context(cafile=fleet.home.path / "root/ca.pem")
    context.load_cert_chain(identity)
    client.tls_set_context(context)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("localhost", fleet.home.settings.broker.port)
    client.subscribe("spBv1.0/plant/#", 1)
    client.loop_start()
    assert subscribed.wait(20)
    yield client
    client.disconnect()
    client.loop_stop()
    client._reset_sockets()


@pytest.fixture
def agent(fleet: Any, bridge: paho.Client, valve: Any, tmp_path: Path) -> Iterator[AgentAtWork]:
    """Node pump-1 of group plant."""
    assert bridge.is_connected()
    fleet.home.add_node("pump-1", "plant")
    (tmp_path / "device.pem").write_bytes(fleet.home.issue("pump-1").pem)
    point = {"name": "setpoint", "table": "holding", "address": 0, "datatype": "uint16"}
    line = {"type": "modbus", "name": "line", "interval_s": 0.5, "timeout_s": 2, "host": "127.0.0.1"}
    units = [{"unit_id": 1, "points": [point | {"write": {"min": 0, "max": 100}}]}]
    pem = str(tmp_path / "device.pem")
    tls = {"ca_file": str(fleet.home.path / "root/ca.pem"), "cert_file": pem, "key_file": pem}
    config = {
        "group": "plant",
        "node": "pump-1",
        "state_dir": str(tmp_path / "state"),
        "clock": {"wait_s": 0},
        "mqtt": {"host": "localhost", "port": fleet.home.settings.broker.port, "client_id": "pump-1", "tls": tls},
        "sources": [line | {"port": valve.server_address[1], "units": units}],
        "drain_timeout_s": 0.5,
    }
    (tmp_path / "edge.yaml").write_text(yaml.safe_dump(config))
    log = tmp_path / "agent.log"
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        for process in running:
            process.kill()
            process.wait()
        with log.open("wb") as file:
            command = [sys.executable, "-m", "edge", "run", str(tmp_path / "edge.yaml")]
            running.append(subprocess.Popen(command, stderr=file, cwd=ROOT, env=os.environ | {"TZ": "UTC"}))
        wait_for(lambda: "delivering to" in log.read_text() or running[-1].poll() is not None, log)
        assert running[-1].poll() is None, log.read_text()

    start()
    yield AgentAtWork(log, start)
    running[-1].kill()
    running[-1].wait()


def wait_for(condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@dataclass
class Stranger:
    """A Sparkplug node that is scripted: what it gets, and what it says to each command."""

    group: str
    says: Callable[[Topic, Payload], list[tuple[MessageType, list[Metric]]]] = lambda _topic, _payload: []
    got: list[Payload] = field(default_factory=list)
    raw: list[tuple[str, bytes]] = field(default_factory=list)

    def start(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._took
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe([(f"spBv1.0/{self.group}/NCMD/pi-1", 1), (f"spBv1.0/{self.group}/DCMD/pi-1/+", 1)])
        assert subscribed.wait(10)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()

    def _took(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        payload = decode(bytes(message.payload))
        self.got.append(payload)
        device = message.topic.split("/")[4:]
        for kind, metrics in self.says(Topic(self.group, MessageType.NCMD, "pi-1"), payload):
            topic = Topic(self.group, kind, "pi-1", device[0] if kind.of_device else None)
            self._client.publish(str(topic), encode(Payload(1, tuple(metrics))))
        for topic_text, raw in self.raw:
            self._client.publish(topic_text, raw)


@pytest.fixture
def stranger(mosquitto: Mosquitto, request: pytest.FixtureRequest) -> Iterator[Stranger]:
    """Connected to the broker that the run shares, in a group of the test's own."""
    made = Stranger(f"g{abs(hash(request.node.name)) % 10**9}")
    made.start(mosquitto.port)
    yield made
    made.stop()
