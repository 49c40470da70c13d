"""The three servers, through real clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from stack import (
    Kafka,
    Mosquitto,
    NotInstalledError,
    PortTakenError,
    Server,
    ServerError,
    Timescale,
    free_port,
    together,
    wait_until,
)
from stack import install as stack_install
from stack import mosquitto as stack_mosquitto
from stack.server import prune

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVERS: list[type[Server]] = [Mosquitto, Kafka, Timescale]


class Subscriber:
    """A persistent MQTT session that remembers what it was sent."""

    def __init__(self, broker: Mosquitto, client_id: str) -> None:
        self.received: list[bytes] = []
        self._subscribed = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        self.client.on_message = lambda _client, _userdata, message: self.received.append(message.payload)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        self.client.subscribe(f"test/{client_id}", qos=1)
        assert self._subscribed.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def publish(broker: Mosquitto, topic: str, payload: bytes) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.publish(topic, payload, qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def produce(broker: Kafka, topic: str, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all")
    producer.send(topic, value).get(timeout=20)
    producer.close()


def consume(broker: Kafka, topic: str) -> bytes:
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek_to_beginning()
    found: list[Any] = []
    assert wait_until(lambda: found.extend(consumer.poll(500).values()) is None and bool(found), timeout_s=20)
    consumer.close()
    value: bytes = found[0][0].value
    return value


def query(dsn: str, text: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@pytest.fixture(params=SERVERS, ids=lambda kind: kind.__name__)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with request.param() as running:
        yield running


def test_mosquitto_delivers(mosquitto: Mosquitto) -> None:
    subscriber = Subscriber(mosquitto, "delivers")
    publish(mosquitto, "test/delivers", b"42")
    assert wait_until(lambda: subscriber.received == [b"42"], timeout_s=10)
    subscriber.close()


def test_mosquitto_keeps_its_sessions_over_a_clean_restart_and_loses_them_when_wiped() -> None:
    with Mosquitto() as broker:
        Subscriber(broker, "offline").close()
        publish(broker, "test/offline", b"kept")
        broker.restart()
        subscriber = Subscriber(broker, "offline")
        assert wait_until(lambda: subscriber.received == [b"kept"], timeout_s=10)
        subscriber.close()

        publish(broker, "test/offline", b"lost")
        broker.stop()
        broker.wipe()
        broker.start()
        subscriber = Subscriber(broker, "offline")
        publish(broker, "test/offline", b"after")
        assert wait_until(lambda: subscriber.received == [b"after"], timeout_s=10)
        subscriber.close()


def test_mosquitto_queues_by_bytes_not_by_messages(mosquitto: Mosquitto) -> None:
    Subscriber(mosquitto, "many").close()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(mosquitto.host, mosquitto.port)
    client.loop_start()
    for number in range(3000):
        sent = client.publish("test/many", str(number).encode(), qos=1)
    sent.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()
    subscriber = Subscriber(mosquitto, "many")
    assert wait_until(lambda: len(subscriber.received) == 3000, timeout_s=30)
    subscriber.close()


def test_kafka_makes_topics_with_their_settings_and_does_not_mind_a_second_time(kafka: Kafka) -> None:
    for _ in range(2):
        kafka.create_topic("stack.made", partitions=3, config={"retention.ms": "60000"})
    with kafka.admin() as admin:
        described = admin.describe_topics(["stack.made"])
    assert "stack.made" in json.dumps(described, default=str)
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    assert consumer.partitions_for_topic("stack.made") == {0, 1, 2}
    consumer.close()


def test_kafka_keeps_an_acknowledged_record_over_a_kill_and_for_another_object(tmp_path: Path) -> None:
    with Kafka(directory=tmp_path) as broker:
        broker.create_topic("kept")
        produce(broker, "kept", b"record")
        broker.kill()
        assert broker.poll() == -signal.SIGKILL
    with Kafka(directory=tmp_path) as again:
        assert again.port != broker.port
        assert consume(again, "kept") == b"record"


def test_timescale_has_the_extension_in_its_database(timescale: Timescale) -> None:
    [(version,)] = query(timescale.superuser_dsn, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    assert version.startswith("2.")
    assert query(timescale.superuser_dsn, "SELECT current_database()") == [("headwater",)]


def test_timescale_wants_the_password(timescale: Timescale) -> None:
    assert timescale.password_path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(timescale.dsn(user="postgres", password="guessed"), "SELECT 1")


def test_timescale_keeps_a_commit_over_a_kill() -> None:
    with Timescale(shared_buffers="64MB") as server:
        assert query(server.superuser_dsn, "SHOW synchronous_commit") == [("on",)]
        query(server.superuser_dsn, "CREATE TABLE kept (n int)")
        query(server.superuser_dsn, "INSERT INTO kept VALUES (42)")
        server.kill()
        server.start()
        assert query(server.superuser_dsn, "SELECT n FROM kept") == [(42,)]


def test_timescale_starts_again_when_only_its_postmaster_was_killed() -> None:
    with Timescale(shared_buffers="64MB") as server:
        worker = psycopg2.connect(server.superuser_dsn, async_=True)
        assert wait_until(lambda: worker.poll() == psycopg2.extensions.POLL_OK, timeout_s=10, poll_s=0.01)
        # At work, and not waiting: it would go on for a minute.
        worker.cursor().execute("SELECT count(*) FROM generate_series(1, 200000000)")
        working = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series(1, 2%'"
        assert wait_until(lambda: query(server.superuser_dsn, working)[0][0] > 1, timeout_s=10)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until(lambda: not server.running, timeout_s=10)
        server.start()
        assert query(server.superuser_dsn, "SELECT 1") == [(1,)]
        worker.close()


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_gets_a_database_of_its_own(database: str, number: int) -> None:
    query(database, "CREATE TABLE mine (at timestamptz NOT NULL)")
    assert query(database, "SELECT count(*) FROM create_hypertable('mine', by_range('at'))") == [(1,)]
    assert number


def test_stopping_leaves_no_process_and_no_directory(server: Server) -> None:
    assert server.pid is not None
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    server.close()
    assert not any(process.is_running() for process in family)
    assert not server.directory.exists()


@pytest.mark.parametrize("server", [Mosquitto, Timescale], indirect=True)
def test_a_suspended_server_is_stopped_all_the_same(server: Server) -> None:
    server.suspend()
    server.stop()
    assert not server.running


def test_two_of_a_kind_run_side_by_side() -> None:
    servers = [Mosquitto(), Mosquitto(), Timescale(shared_buffers="64MB"), Timescale(shared_buffers="64MB")]
    with together(*servers):
        assert len({server.port for server in servers}) == len(servers)
        assert all(server.running for server in servers)
    assert not any(server.running for server in servers)


def test_when_one_of_several_fails_the_others_end_and_the_logs_stay(tmp_path: Path) -> None:
    good = Mosquitto(directory=tmp_path / "good")
    bad = Mosquitto(extra=["no_such_setting true"])
    with pytest.raises(ServerError), together(good, bad):
        pytest.fail("not all of them started")
    assert not good.running
    assert "no_such_setting" in bad.log_path.read_text()
    bad.remove()


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.__name__)
def test_a_taken_port_is_told_as_such(kind: type[Server], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"127.0.0.1:{port}"):
            kind(port=port, directory=tmp_path).start()


def test_a_missing_install_names_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stack_mosquitto, "MOSQUITTO", tmp_path / "absent")
    with pytest.raises(NotInstalledError, match=r"Mosquitto is not installed.*make setup"):
        Mosquitto(directory=tmp_path).start()
    with pytest.raises(NotInstalledError, match="absent"):
        stack_install.Part("It", tmp_path / "absent").required()


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    broker = Mosquitto(directory=tmp_path, extra=["no_such_setting true"])
    with pytest.raises(ServerError, match=r"(?s)Mosquitto ended with status.*server\.log.*no_such_setting") as caught:
        broker.start()
    assert caught.value.log_path == tmp_path / "server.log"


def test_a_cluster_moves_where_its_account_can_reach(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs PostgreSQL as another account")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = Timescale(directory=closed / "moved", shared_buffers="64MB")
    try:
        assert closed not in server.directory.parents
        server.start()
        assert query(server.superuser_dsn, "SELECT 1") == [(1,)]
    finally:
        server.stop()
        server.remove()


STARTS_A_BROKER = """
import sys, time
from pathlib import Path
from stack import Mosquitto
with Mosquitto(directory=Path(sys.argv[1])) as broker:
    print(broker.pid, flush=True)
    time.sleep(600)
"""


def is_gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("fatal", [signal.SIGKILL, signal.SIGINT], ids=lambda fatal: fatal.name)
def test_a_server_ends_with_its_parent(fatal: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_A_BROKER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=stack_install.CHECKOUT,
    ) as parent:
        assert parent.stdout is not None
        broker = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(fatal)
        assert wait_until(lambda: is_gone(broker), timeout_s=10)


def test_the_command_line_runs_and_ends_all_three(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "stack", "run", "--mqtt-port", str(port), "--directory", str(tmp_path / "run")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=stack_install.CHECKOUT) as running:
        assert running.stdout is not None
        lines = [running.stdout.readline() for _ in range(5)]
        assert lines[0].split()[:2] == ["Mosquitto", f"127.0.0.1:{port}"]
        assert "Ctrl-C" in lines[-1]
        children = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    assert not any(child.is_running() for child in children)


def test_the_command_line_says_what_is_installed() -> None:
    argv = [sys.executable, "-m", "stack", "status"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=stack_install.CHECKOUT)
    for name in ("Mosquitto", "Kafka", "TimescaleDB", "Spark's Kafka connector"):
        assert name in done.stdout
    assert "MISSING" not in done.stdout


def test_directories_of_killed_runs_are_pruned_after_a_while(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    long_ago = time.time() - 7200
    kept = {
        f"kafka-{os.getpid()}-0a1b2c",
        "servers",
        "demo-of-mine",
        f"kafka-{gone.pid}-fresh0",
        f"kafka-{gone.pid}-ffffff",
    }
    for name in (*kept, f"kafka-{gone.pid}-0a1b2c", f"mosquitto-{gone.pid}-0a1b2c"):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        os.utime(folder.parent, None if name.endswith("ffffff") else (long_ago, long_ago))
    prune(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
