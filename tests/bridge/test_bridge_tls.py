"""The bridge and a broker that speaks TLS."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from stack import Kafka, Mosquitto, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bridge.conftest import World

    NewWorld = Callable[[Mosquitto, Kafka], World]


@dataclass(frozen=True)
class Certificate:
    """One for all, of 127.0.0.1 and no other name."""

    path: Path
    key: Path

    @property
    def files(self) -> dict[str, str]:
        return {"ca_file": str(self.path), "cert_file": str(self.path), "key_file": str(self.key)}

    def listener(self, port: int) -> list[str]:
        files = [f"cafile {self.path}", f"certfile {self.path}", f"keyfile {self.key}"]
        return [f"listener {port} 127.0.0.1", *files, "require_certificate true"]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    made = Certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")
    subject = ["-subj", "/CN=ours", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject]
    subprocess.run([*make, "-keyout", str(made.key), "-out", str(made.path)], check=True, capture_output=True)
    return made


def test_tls_with_a_certificate_of_our_own(
    new_world: NewWorld, kafka: Kafka, certificate: Certificate, until: Callable[..., bool]
) -> None:
    port = free_port()
    with Mosquitto(extra=certificate.listener(port)) as mosquitto:
        world = new_world(mosquitto, kafka)
        tls = {"port": port, "client_id": "tls", "tls": certificate.files}
        bridge = world.bridge(mqtt={"host": "127.0.0.1", **tls}).start()
        node = world.node()
        # A read of TLS gives 16 KiB at most, and what it has decrypted beyond no select() tells of.
        for batch_no in range(1, 301):
            node.data(batch_no, os.urandom(300_000 if batch_no % 50 == 0 else 50))
        assert until(lambda: node.through == 300), bridge.log
        assert bridge.stop() == 0


def test_a_broker_whose_certificate_lacks_its_name_is_told_so(
    new_world: NewWorld, kafka: Kafka, certificate: Certificate, until: Callable[..., bool]
) -> None:
    port = free_port()
    with Mosquitto(extra=certificate.listener(port)) as mosquitto:
        mqtt = {"host": "localhost", "port": port, "client_id": "tls", "tls": certificate.files}
        bridge = new_world(mosquitto, kafka).bridge(mqtt=mqtt).start(ready=False)
        assert until(lambda: "not valid for 'localhost'" in (bridge.log if bridge.log_path.exists() else ""))
        assert f"MQTT: localhost:{port} cannot be reached: " in bridge.log
        assert bridge.stop() == 0


def test_a_broker_that_hangs_up_is_told_also_after_one_that_was_not_there(
    new_world: NewWorld, mosquitto: Mosquitto, kafka: Kafka, certificate: Certificate, until: Callable[..., bool]
) -> None:
    port = free_port()
    without = {"ca_file": certificate.files["ca_file"]}
    mqtt = {"host": "127.0.0.1", "port": port, "client_id": "tls", "tls": without}
    bridge = new_world(mosquitto, kafka).bridge(mqtt=mqtt).start(ready=False)
    assert until(lambda: "cannot be reached" in (bridge.log if bridge.log_path.exists() else ""))
    with Mosquitto(extra=certificate.listener(port)):
        assert until(lambda: "MQTT: connection lost" in bridge.log)
        assert bridge.stop() == 0
