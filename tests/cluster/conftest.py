"""The whole path on clusters: three brokers, a Spark master with two workers, and our roles as processes."""

from __future__ import annotations

import json
import sys
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import yaml
from kafka import KafkaConsumer, TopicPartition
from psycopg2.extensions import make_dsn, parse_dsn

from contract.records import DEAD_LETTER_TOPIC, PAYLOAD_TOPIC
from db import migrate, roles
from stack import (
    Command,
    KafkaCluster,
    ManagedProcess,
    Mosquitto,
    SparkCluster,
    Timescale,
    connector_jars,
    free_port,
    together,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PASSWORD = "a throw-away password"
PARTITIONS = 6


class Role:
    """One of our roles as a process, with its health over HTTP."""

    def __init__(self, name: str, directory: Path, document: dict[str, Any], **environment: str) -> None:
        self.health_port = free_port()
        config = directory / f"{name}.yaml"
        config.write_text(yaml.safe_dump(document | {"health": {"port": self.health_port}}))
        argv = [sys.executable, "-m", name, "run", str(config)]
        self.process = ManagedProcess(name, Command(argv, environment, ROOT), log_path=directory / f"{name}.log")

    @property
    def log(self) -> str:
        return self.process.log_path.read_text()

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/healthz", timeout=5) as answer:
                health: dict[str, Any] = json.load(answer)
                return health
        except OSError:
            return {}


class Clusters:
    """All of it. A cluster's directory is what its machines would share: HDFS, S3, a volume."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kafka = KafkaCluster()
        self.spark = SparkCluster(workers=2, cores=2, memory_mb=512)
        self.mosquitto = Mosquitto()
        self.timescale = Timescale(shared_buffers="128MB", settings={"fsync": "off"})
        self._ends = ExitStack()
        self.bridge: Role
        self.stream: Role
        self.dsn = ""

    def start(self) -> None:
        spark = (self.spark.master, *self.spark.workers)
        self._ends.enter_context(together(*self.kafka.brokers, *spark, self.mosquitto, self.timescale))
        self.dsn = self.timescale.superuser_dsn
        migrate.migrate(self.dsn, 30)
        roles.allow_login(self.dsn, "headwater_writer", PASSWORD, 30)
        self._start_bridge()
        self._start_stream()

    def close(self) -> None:
        self._ends.close()

    def _start_bridge(self) -> None:
        topics = {"create": True, "partitions": PARTITIONS, "replication_factor": 3}
        self.bridge = Role(
            "bridge",
            self.directory,
            {
                "mqtt": {"host": "127.0.0.1", "port": self.mosquitto.port},
                "kafka": {"bootstrap_servers": self.kafka.bootstrap_servers, "topics": topics},
            },
        )
        self._start(self.bridge)
        self.wait(lambda: bool(self.bridge.health().get("mqtt_connected")), 60)

    def _start_stream(self) -> None:
        writer = make_dsn(**(parse_dsn(self.dsn) | {"user": "headwater_writer", "password": PASSWORD}))
        self.stream = Role(
            "stream",
            self.directory,
            {
                "kafka": {"bootstrap_servers": self.kafka.bootstrap_servers, "max_offsets_per_trigger": 500},
                "checkpoint_dir": (self.directory / "checkpoint").as_uri(),
                "trigger_interval_s": 0.5,
                "spark": {
                    "master": self.spark.url,
                    "jars_dir": str(connector_jars()[0].parent),
                    "driver_memory": "512m",
                    "settings": {
                        "spark.driver.host": "127.0.0.1",
                        "spark.driver.bindAddress": "127.0.0.1",
                        "spark.executor.memory": "512m",
                    },
                },
            },
            HEADWATER_DSN=writer,
            PYSPARK_PYTHON=sys.executable,
        )
        self._start(self.stream)

    def _start(self, role: Role) -> None:
        role.process.start()
        self._ends.callback(role.process.stop)

    def wait(self, condition: Callable[[], bool], timeout_s: float = 240) -> None:
        def fulfilled() -> bool:
            for role in (self.bridge, self.stream) if hasattr(self, "stream") else (self.bridge,):
                assert role.process.running, f"{role.process.name} has ended:\n{role.log}"
            return condition()

        assert wait_until(fulfilled, timeout_s=timeout_s, poll_s=0.2), f"waited in vain:\n{self.logs()}"

    def logs(self) -> str:
        return "\n".join(path.read_text()[-4000:] for path in sorted(self.directory.glob("*.log")))

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.dsn)) as opened, opened.cursor() as cursor:
            cursor.execute(statement)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

    def one(self, statement: str) -> Any:
        ((value,),) = self.rows(statement)
        return value

    def end_offsets(self) -> dict[tuple[str, int], int]:
        """What Kafka holds: (topic, partition) -> next offset."""
        with closing(KafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers)) as consumer:
            partitions = [
                TopicPartition(topic, number)
                for topic in (PAYLOAD_TOPIC, DEAD_LETTER_TOPIC)
                for number in consumer.partitions_for_topic(topic) or ()
            ]
            ends = consumer.end_offsets(partitions).items()
            return {(found.topic, found.partition): end for found, end in ends if end}


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[Clusters]:
    found = Clusters(tmp_path)
    with closing(found):
        found.start()
        yield found
