"""Several brokers, each a process of its own, as one cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kafka.errors import KafkaError

from stack.errors import ServerError
from stack.kafka import BrokerLimits, Kafka, Seat, new_cluster_id
from stack.process import wait_until
from stack.server import Cluster, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CLUSTER_ID = re.compile(r"^cluster\.id=(\S+)$", re.MULTILINE)
# Three of them run beside a Spark, a database and everything else.
_SMALL = BrokerLimits(heap_mb=320)


class KafkaCluster(Cluster):
    """Brokers on loopback, one of which may be away at any time.

    Every broker is a controller, too. A topic's records are on `replicas` brokers, all of them unless told otherwise,
    and acknowledged (acks=all) when all but one have them: one may be lost at any time, and nothing stands still. With
    a directory the data of each broker are kept in a folder of it.
    """

    def __init__(
        self,
        brokers: int = 3,
        *,
        replicas: int | None = None,
        directory: Path | None = None,
        limits: BrokerLimits = _SMALL,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        controllers = {node: free_port() for node in range(1, brokers + 1)}
        cluster_id = _kept_cluster_id(directory) or new_cluster_id()
        replicas = brokers if replicas is None else replicas
        self.brokers = tuple(
            Kafka(
                directory=directory and directory / f"broker-{node}",
                limits=limits,
                extra=extra,
                seat=Seat(node, controllers, cluster_id, replicas, max(1, replicas - 1)),
            )
            for node in controllers
        )
        super().__init__(*self.brokers)

    @property
    def bootstrap_servers(self) -> list[str]:
        """The addresses of all brokers."""
        return [broker.address for broker in self.brokers]

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Makes a topic with the cluster's replication and waits until it can be written to."""
        self._alive().create_topic(name, partitions, config)

    def in_sync(self) -> bool:
        """Whether every partition of every topic is on all brokers that should have it."""
        try:
            with self._alive().admin() as admin:
                partitions = [each for topic in admin.describe_topics() for each in topic["partitions"]]
        except KafkaError:
            return False
        return all(len(each["isr_nodes"]) == len(each["replica_nodes"]) for each in partitions)

    def wait_in_sync(self, timeout_s: float = 60.0) -> None:
        """Waits until a broker that was away has caught up; raises ServerError."""
        if not wait_until(self.in_sync, timeout_s=timeout_s, poll_s=0.25):
            broker = self._alive()
            raise ServerError(broker.name, f"was not in sync in {timeout_s:g} s", broker.log_path, broker.log_tail())

    def _alive(self) -> Kafka:
        return next((broker for broker in self.brokers if broker.running), self.brokers[0])


def _kept_cluster_id(directory: Path | None) -> str | None:
    """The id under which a directory's brokers stored their data: one that was wiped must come back with the same."""
    for properties in directory.glob("broker-*/data/meta.properties") if directory else ():
        if found := _CLUSTER_ID.search(properties.read_text()):
            return found[1]
    return None
