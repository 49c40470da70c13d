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

from contract import sparkplug_b_pb2 as pb
from contract.datatypes import DataType
from contract.sparkplug import Metric, Payload, encode
from stack.demo import System
from stack.demo.layout import Ports
from stack.demo.system import Settings

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


@pytest.mark.timeout(200)
def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--directory", str(tmp_path / "demo")], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as demo:
        assert demo.stdout is not None
        assert any("everything runs" in line for line in demo.stdout), "the demo ended before it ran"
        assert processes_of(tmp_path)
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(60) == 0
    assert processes_of(tmp_path) == []


def processes_of(directory: Path) -> list[str]:
    """The command lines of processes other than this one that know a directory."""
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline", "pid"])
        if process.info["pid"] != os.getpid() and any(str(directory) in word for word in process.info["cmdline"] or ())
    ]


@pytest.mark.timeout(300)
def test_bad_messages_are_set_aside_with_their_reasons_and_stop_nothing(tmp_path: Path) -> None:
    with System(Settings(tmp_path / "demo", Ports.free())) as system:
        publish(system.layout.ports.mqtt, poison())
        dsn = system.layout.reader_dsn.read_text().strip()
        expected = {"not a Sparkplug", "no name", "finite", "datatype 99", "time", "TYPE", "bytes"}

        def missing() -> set[str]:
            reasons = [reason for (reason,) in query(dsn, "select reason from dead_letter")]
            return {word for word in expected if not any(word in reason for reason in reasons)}

        wait_for(
            lambda: not missing(),
            60,
            lambda: f"no dead letter says {missing()}: {query(dsn, 'select mqtt_topic, reason from dead_letter')}",
        )
        # What was good in a bad payload was kept, and the rest of the system goes on.
        kept = "select value from reading join series using (series_id) where metric = 'good' and node_id = 'rogue'"
        assert query(dsn, kept) == [(42.0,)]
        rows = system.observer().ingested().rows
        wait_for(lambda: (system.observer().ingested().rows or 0) > (rows or 0), 30, lambda: "no rows any more")


def poison() -> list[tuple[str, bytes]]:
    now = int(time.time() * 1000)

    def payload(*metrics: pb.Metric) -> bytes:
        return pb.Payload(timestamp=now, metrics=metrics, seq=1).SerializeToString()

    def double(name: str, value: float, at: int = now) -> pb.Metric:
        return pb.Metric(name=name, timestamp=at, datatype=DataType.DOUBLE, double_value=value)

    topic = "spBv1.0/demo/NDATA/rogue"
    return [
        (topic, b"\xff\xfe no protobuf at all"),
        (topic, payload(pb.Metric(timestamp=now, datatype=DataType.DOUBLE, double_value=1.0), double("good", 42.0))),
        (topic, payload(double("nan", float("nan")), double("inf", float("inf")), double("-inf", float("-inf")))),
        (topic, payload(double("long ago", 1.0, 0), double("next year", 1.0, now + 365 * DAY_MS))),
        (topic, payload(pb.Metric(name="odd", timestamp=now, datatype=99, double_value=1.0))),
        ("spBv1.0/demo/NOISE/rogue", payload(double("x", 1.0))),
        (topic, encode(Payload(now, (Metric("big", DataType.STRING, "x" * 2_000_000, now),)))),
    ]


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
