"""The demo as a user runs it, and what an outsider can do to the running system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import psutil
import psycopg2
import pytest
import yaml

from contract import sparkplug_b_pb2 as pb
from contract.datatypes import DataType

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "stack", "demo", "--free-ports"]
DAY_MS = 86_400_000


@pytest.mark.timeout(300)
def test_demo_ends_with_nothing_lost(tmp_path: Path) -> None:
    command = [*DEMO, "--duration", "15", "--directory", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for source in ("line-a", "line-b", "exchange", "weather", "gate"):
        assert source in done.stdout
    assert processes_of(tmp_path) == []


@pytest.mark.timeout(300)
def test_bad_messages_stop_nothing_and_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with subprocess.Popen(
        [*DEMO, "--directory", str(directory)], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as demo:
        try:
            assert demo.stdout is not None
            assert any("everything runs" in line for line in demo.stdout), "the demo ended before it ran"
            publish(yaml.safe_load((directory / "bridge.yaml").read_text())["mqtt"]["port"], list(POISON.values()))
            bad_messages_are_set_aside((directory / "reader.dsn").read_text().strip())
            assert processes_of(tmp_path)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.communicate(timeout=90)
        assert demo.returncode == 0
    assert processes_of(tmp_path) == []


def bad_messages_are_set_aside(dsn: str) -> None:
    def missing() -> set[str]:
        reasons = [str(reason) for (reason,) in query(dsn, "select reason from dead_letter")]
        return {part for part in POISON if not any(part in reason for reason in reasons)}

    wait_for(lambda: not missing(), 60, lambda: f"no dead letter says {missing()}")
    # What was good in a bad payload was kept, and the rest of the system goes on.
    kept = "select value from reading join series using (series_id) where metric = 'good' and node_id = 'rogue'"
    assert query(dsn, kept) == [(42.0,)]
    newest = "select max(sampled_at) from reading join series using (series_id) where device_id = 'line-a'"
    before = query(dsn, newest)
    wait_for(lambda: query(dsn, newest) > before, 30, lambda: "no readings any more")


def processes_of(directory: Path) -> list[str]:
    """The command lines of processes other than this one that know a directory."""
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline", "pid"])
        if process.info["pid"] != os.getpid() and any(str(directory) in word for word in process.info["cmdline"] or ())
    ]


NOW = int(time.time() * 1000)
ROGUE = "spBv1.0/demo/NDATA/rogue"


def payload(*metrics: pb.Metric) -> bytes:
    return pb.Payload(timestamp=NOW, metrics=metrics, seq=1).SerializeToString()


def double(name: str | None, value: float, at: int = NOW) -> pb.Metric:
    return pb.Metric(name=name, timestamp=at, datatype=DataType.DOUBLE, double_value=value)


# What the reason says -> what was sent.
POISON = {
    "not a Sparkplug B payload": (ROGUE, b"\xff\xfe no protobuf at all"),
    "a metric has no name": (ROGUE, payload(double(None, 1.0), double("good", 42.0))),
    "DOUBLE nan": (ROGUE, payload(double("a", float("nan")))),
    "DOUBLE inf": (ROGUE, payload(double("b", float("inf")))),
    "DOUBLE -inf": (ROGUE, payload(double("c", float("-inf")))),
    "sampled at 1970-01-01": (ROGUE, payload(double("long ago", 1.0, 0))),
    "after it was received": (ROGUE, payload(double("next year", 1.0, NOW + 365 * DAY_MS))),
    "unknown datatype 99": (ROGUE, payload(pb.Metric(name="odd", timestamp=NOW, datatype=99, double_value=1.0))),
    "type 'NOISE', allowed are": ("spBv1.0/demo/NOISE/rogue", payload(double("x", 1.0))),
    "allowed are at most 1048576": (ROGUE, b"x" * 2_000_000),
}


def publish(port: int, messages: list[tuple[str, bytes]]) -> None:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        for topic, payload in messages:
            client.publish(topic, payload, qos=1).wait_for_publish(10)
    finally:
        client.disconnect()
        client.loop_stop()


def query(dsn: str, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool], timeout_s: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.2)
