"""The three servers, through real clients."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from stack import (
    Kafka,
    Mosquitto,
    Timescale,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path


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


def publish(broker: Mosquitto, topic: str, *payloads: bytes) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(broker.host, broker.port)
    client.loop_start()
    sent = [client.publish(topic, payload, qos=1) for payload in payloads]
    for message in sent:
        message.wait_for_publish(30)
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


def test_mosquitto_delivers(mosquitto: Mosquitto) -> None:
    subscriber = Subscriber(mosquitto, "delivers")
    publish(mosquitto, "test/delivers", b"42")
    assert wait_until(lambda: subscriber.received == [b"42"], timeout_s=10)
    subscriber.close()


def test_a_client_that_is_stopped_leaves_no_socket_behind(mosquitto: Mosquitto) -> None:
    subscriber = Subscriber(mosquitto, "stopped")
    subscriber.close()
    assert (subscriber.client.socket(), subscriber.client._sockpairR, subscriber.client._sockpairW) == (None,) * 3


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
    publish(mosquitto, "test/many", *(str(number).encode() for number in range(3000)))
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
