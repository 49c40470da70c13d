"""The Kafka cluster as an administrator sees it: how to reach it, which topics it has, what they take."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import kafka.errors as kafka_errors
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from bridge.errors import KafkaNotReady, TopicMissing

if TYPE_CHECKING:
    from bridge.config import KafkaConfig

logger = logging.getLogger(__name__)

MAX_REQUEST_TIMEOUT_S: Final = 10.0
_BOOTSTRAP_TIMEOUT_S: Final = 5
_MAX_BYTES: Final = "max.message.bytes"


def connection_options(config: KafkaConfig) -> dict[str, Any]:
    """What kafka-python's clients need to reach the cluster. Its times are whole numbers: floats fail on the wire."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(config.bootstrap_servers),
        "client_id": "headwater-bridge",
        "bootstrap_timeout_ms": _BOOTSTRAP_TIMEOUT_S * 1000,
        "request_timeout_ms": int(min(MAX_REQUEST_TIMEOUT_S, config.delivery_timeout_s / 2) * 1000),
        "reconnect_backoff_max_ms": 2000,
        "security_protocol": config.security_protocol,
    }
    if config.security_protocol.endswith("SSL"):
        options["ssl_context"] = config.tls.context()
    if config.sasl_mechanism is not None:
        options |= {
            "sasl_mechanism": config.sasl_mechanism,
            "sasl_plain_username": config.username,
            "sasl_plain_password": config.password(),
        }
    return options


def record_limits(config: KafkaConfig, wanted_bytes: int) -> dict[str, int]:
    """How large a record each of the two topics takes, in bytes; topics are created first where the config says so.

    `wanted_bytes` is what a created topic takes. Raises KafkaNotReady for a missing topic, and kafka-python's errors.
    """
    names = config.topics.payloads, config.topics.dead_letters
    admin = KafkaAdminClient(**connection_options(config))
    try:
        missing = sorted(set(names) - set(admin.list_topics()))
        if missing and not config.topics.create:
            raise TopicMissing(f"no topic {' and '.join(missing)}: create it, or set kafka.topics.create")
        if missing:
            _create(admin, config, missing, wanted_bytes)
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, [_MAX_BYTES]) for name in names]
        found = admin.describe_configs(resources, config_filter="all")["topic"]
        if unknown := [name for name in names if _MAX_BYTES not in found.get(name, {})]:
            # It was made a moment ago, and the broker that was asked has not heard of it.
            raise KafkaNotReady(f"topic {' and '.join(unknown)} not known to every broker yet")
        return {name: int(found[name][_MAX_BYTES]["value"]) for name in names}
    finally:
        admin.close()


def topic_settings(config: KafkaConfig, max_record_bytes: int) -> dict[str, Any]:
    """How a topic is created."""
    return {
        "num_partitions": config.topics.partitions,
        "replication_factor": config.topics.replication_factor,
        "configs": {
            "retention.ms": str(int(config.topics.retention_h * 3_600_000)),
            _MAX_BYTES: str(max_record_bytes),
            # Kafka's own 1 would call a record safe that only one broker has.
            "min.insync.replicas": str(max(1, config.topics.replication_factor - 1)),
        },
    }


def _create(admin: KafkaAdminClient, config: KafkaConfig, names: list[str], max_record_bytes: int) -> None:
    try:
        admin.create_topics(dict.fromkeys(names, topic_settings(config, max_record_bytes)), wait_for_metadata=True)
        logger.info("Kafka: created %s, %d partitions each", " and ".join(names), config.topics.partitions)
    except kafka_errors.TopicAlreadyExistsError:
        logger.info("Kafka: %s: made by another meanwhile", " or ".join(names))
