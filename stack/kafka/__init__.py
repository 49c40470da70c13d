"""Apache Kafka (KRaft): one broker that is its own controller, or one of several that are each other's."""

from __future__ import annotations

import base64
import contextlib
import gc
import secrets
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from stack.install import KAFKA_LIB, Part, java
from stack.process import Command, run_to_end
from stack.server import LOOPBACK, Server, free_port, port_is_taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LOG4J = Path(__file__).with_name("log4j2.properties")
_FORMAT_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_MS = 10_000


def new_cluster_id() -> str:
    """A random cluster id as Kafka writes it: 16 bytes in base64 that do not begin with a hyphen."""
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "_", 1)


@dataclass(frozen=True, slots=True)
class Seat:
    """A broker's place among those of its cluster.

    `controllers` are the loopback ports on which the members' controllers talk, by node id; a topic's `replicas`, of
    which `in_sync` must have a record before it counts as written, are what the cluster's own topics get, too.
    """

    node_id: int = 1
    controllers: Mapping[int, int] = field(default_factory=lambda: {1: free_port()})
    cluster_id: str = field(default_factory=new_cluster_id)
    replicas: int = 1
    in_sync: int = 1

    @property
    def controller_port(self) -> int:
        """Where this member's own controller listens."""
        return self.controllers[self.node_id]

    def settings(self) -> dict[str, object]:
        """What of the configuration follows from it."""
        internal_topics = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        return {
            "node.id": self.node_id,
            "controller.quorum.voters": ",".join(
                f"{node}@{LOOPBACK}:{port}" for node, port in self.controllers.items()
            ),
            **{f"{topic}.replication.factor": self.replicas for topic in internal_topics},
            "transaction.state.log.min.isr": self.in_sync,
            "share.coordinator.state.topic.min.isr": self.in_sync,
            "default.replication.factor": self.replicas,
            "min.insync.replicas": self.in_sync,
        }


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """What the broker takes and keeps: per partition, whichever of the two retentions comes first."""

    message_max_bytes: int = 4 << 20
    retention_hours: int = 24
    retention_bytes: int = 1 << 30
    segment_bytes: int = 64 << 20
    heap_mb: int = 512


class Kafka(Server):
    """A Kafka of one node without authentication; topics are made by `create_topic` only.

    A second loopback port, chosen by itself, serves its controller.
    """

    name: ClassVar[str] = "Kafka"

    def __init__(
        self,
        *,
        port: int | None = None,
        directory: Path | None = None,
        limits: BrokerLimits | None = None,
        extra: Mapping[str, str] | None = None,
        seat: Seat | None = None,
    ) -> None:
        super().__init__(port=port, directory=directory)
        self.seat = seat or Seat()
        self._limits = limits or BrokerLimits()
        self._extra = dict(extra or {})

    @property
    def bootstrap_servers(self) -> str:
        """What Kafka's clients call the broker's address."""
        return self.address

    @property
    def config_path(self) -> Path:
        """The configuration, written anew at every start."""
        return self.directory / "server.properties"

    def config(self) -> str:
        """The configuration's text; `extra` overrules what is here."""
        return "".join(f"{key}={value}\n" for key, value in {**self._settings(), **self._extra}.items())

    def _settings(self) -> dict[str, object]:
        return {
            **self.seat.settings(),
            "process.roles": "broker,controller",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{LOOPBACK}:{self.seat.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.data_dir,
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            # After a kill -9 the controller lets the broker in again only when the old session has run out (9 s).
            "broker.session.timeout.ms": 4000,
            "broker.heartbeat.interval.ms": 500,
            # The 50 partitions of a cluster take seconds to make and serve nobody here.
            "offsets.topic.num.partitions": 2,
            "transaction.state.log.num.partitions": 2,
            "message.max.bytes": self._limits.message_max_bytes,
            "replica.fetch.max.bytes": self._limits.message_max_bytes,
            "log.retention.hours": self._limits.retention_hours,
            "log.retention.bytes": self._limits.retention_bytes,
            "log.segment.bytes": self._limits.segment_bytes,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 16 << 20,
        }

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Makes a topic and waits until it can be written to; one that exists already is left as it is."""
        topic = NewTopic(name, partitions, self.seat.replicas, topic_configs=dict(config or {}))
        with self.admin() as admin:
            if name not in admin.list_topics():
                admin.create_topics([topic], timeout_ms=_REQUEST_TIMEOUT_MS, wait_for_metadata=True)

    @contextlib.contextmanager
    def admin(self) -> Iterator[Any]:
        """A kafka-python KafkaAdminClient that is closed in the end."""
        client = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers, request_timeout_ms=_REQUEST_TIMEOUT_MS)
        try:
            yield client
        finally:
            client.close()

    def _ports(self) -> Sequence[int]:
        return [self.port, self.seat.controller_port]

    def _parts(self) -> list[Part]:
        return [Part("Java", java()), Part(self.name, KAFKA_LIB)]

    def _prepare(self) -> None:
        # What a killed broker leaves of its unpacked libraries goes with its directory.
        (self.directory / "tmp").mkdir(exist_ok=True)
        self.config_path.write_text(self.config())
        if not (self.data_dir / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        tool = "kafka.tools.StorageTool", "format", "-t", self.seat.cluster_id, "-c", str(self.config_path)
        shutil.rmtree(self.data_dir, ignore_errors=True)
        run_to_end(
            self.name,
            Command(self._java(options, *tool)),
            timeout_s=_FORMAT_TIMEOUT_S,
            failed="could not format its storage",
            log_path=self.config_path,
        )

    def _command(self) -> Command:
        heap = f"{self._limits.heap_mb}m"
        # Without G1's helper threads: two cores are shared with Spark, the broker and the database.
        options = (f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
        return Command(self._java(options, "kafka.Kafka", str(self.config_path)))

    def _java(self, options: Sequence[str], main: str, *arguments: str) -> list[str]:
        return [
            str(java()),
            *options,
            f"-Djava.io.tmpdir={self.directory / 'tmp'}",
            f"-Dlog4j2.configurationFile={_LOG4J}",
            "-cp",
            f"{KAFKA_LIB}/*",
            main,
            *arguments,
        ]

    def _probe(self) -> bool:
        # The client would log each refused connection as an error.
        if not port_is_taken(self.port):
            return False
        try:
            with self.admin() as admin:
                return bool(admin.describe_cluster())
        except KafkaError:
            pass
        # A client that could not be made leaves its sockets in reference cycles: ended here, where they are expected.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        return False
