"""The real servers on loopback, for the demo, the tests and the benchmarks on a machine without Docker."""

from __future__ import annotations

from stack.errors import NotInstalledError, PortTakenError, ServerError, StackError
from stack.grafana import Grafana
from stack.install import connector_jars
from stack.kafka import BrokerLimits, Kafka
from stack.kafka.cluster import KafkaCluster
from stack.mosquitto import Mosquitto
from stack.process import Command, ManagedProcess, wait_until
from stack.server import Server, free_port, together
from stack.spark import SparkCluster, SparkMaster, SparkWorker
from stack.timescale import Timescale

__all__ = [
    "BrokerLimits",
    "Command",
    "Grafana",
    "Kafka",
    "KafkaCluster",
    "ManagedProcess",
    "Mosquitto",
    "NotInstalledError",
    "PortTakenError",
    "Server",
    "ServerError",
    "SparkCluster",
    "SparkMaster",
    "SparkWorker",
    "StackError",
    "Timescale",
    "connector_jars",
    "free_port",
    "together",
    "wait_until",
]
