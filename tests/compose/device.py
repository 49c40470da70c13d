"""One with the certificate of node `visitor`, a tar on standard input: what the broker lets it do.

Prints JSON: topic -> the reason code that the broker answers to a PUBLISH there; and who else answers on this network.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

TOPICS = (
    "spBv1.0/demo/NDATA/visitor",
    "spBv1.0/demo/DDATA/visitor/pump",
    "spBv1.0/demo/NDATA/edge-1",
    "spBv1.0/demo/DDATA/edge-1/line-a",
    "spBv1.0/demo/NCMD/edge-1",
    "spBv1.0/STATE/headwater-bridge",
    "spBv1.0/other/NDATA/visitor",
)
PORTS = (8883, 3000, 8888, 1883, 5432, 9092, 9093, 7077, 8080, 8081, 8082, 4040, 5020, 8001, 8002, 8003)
URLS = ("http://127.0.0.1:8888/api/contents", "http://127.0.0.1:3000/api/health")


def main() -> None:
    directory = Path(tempfile.mkdtemp())
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            (directory / Path(member.name).name).write_bytes(file.read())
    answers: dict[str, Any] = {
        "published": published(directory),
        "open": [port for port in PORTS if is_open(port)],
        "status": {url: status(url) for url in URLS},
    }
    print(json.dumps(answers))


def published(directory: Path) -> dict[str, int]:
    """The reason code for each topic."""
    answered: dict[int, int] = {}
    arrived = threading.Semaphore(0)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="visitor", protocol=mqtt.MQTTv5)
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    context.load_cert_chain(directory / "identity.pem")
    client.tls_set_context(context)

    def on_publish(_client: object, _userdata: object, mid: int, reason: mqtt.ReasonCode, _more: object) -> None:
        answered[mid] = reason.value
        arrived.release()

    client.on_publish = on_publish
    client.connect("localhost", 8883)
    client.loop_start()
    mids = {topic: client.publish(topic, b"", qos=1).mid for topic in TOPICS}
    for _ in TOPICS:
        assert arrived.acquire(timeout=20), answered
    client.loop_stop()
    client.disconnect()
    return {topic: answered[mid] for topic, mid in mids.items()}


def is_open(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def status(url: str) -> int:
    """What a page answers to who has no password."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


if __name__ == "__main__":
    main()
