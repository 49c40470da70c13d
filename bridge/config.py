"""The bridge's configuration; `bridge/examples/bridge.yaml` shows it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from contract.config import Config, Credentials, Tls
from contract.errors import TopicError
from contract.records import DEAD_LETTER_TOPIC, PAYLOAD_TOPIC
from contract.topics import check_identifier

ALL_GROUPS = "+"


class MqttConfig(Credentials):
    """The MQTT 5 broker."""

    host: str = Field(description="Host name or address.")
    port: int = Field(default=1883, ge=1, le=65535, description="TCP port.")
    client_id: str = Field(
        default="headwater-bridge", min_length=1, max_length=128, description="Client id; names our session there."
    )
    keepalive_s: int = Field(default=30, ge=5, le=3600, description="Longest silence on the connection, in seconds.")
    session_expiry_s: int = Field(
        default=7 * 86400, ge=60, le=2**32 - 1, description="How long the broker keeps for us, in seconds."
    )
    tls: Tls | None = Field(default=None, description="TLS; none: plain TCP.")


class TopicsConfig(Config):
    """The Kafka topics, and how they are made where `create` says so."""

    payloads: str = Field(default=PAYLOAD_TOPIC, description="Topic of the payloads.")
    dead_letters: str = Field(default=DEAD_LETTER_TOPIC, description="Topic of what was set aside.")
    create: bool = Field(default=False, description="Whether to create topics that are missing.")
    partitions: int = Field(default=6, ge=1, le=10_000, description="Partitions of a created topic.")
    replication_factor: int = Field(default=1, ge=1, le=15, description="Replicas of a created topic.")
    retention_h: float = Field(default=168.0, gt=0, description="How long a created topic keeps records, in hours.")


class KafkaConfig(Credentials):
    """The Kafka cluster; `username` is that of SASL."""

    bootstrap_servers: tuple[Annotated[str, Field(pattern=r"^[^\s,]+:[0-9]{1,5}$")], ...] = Field(
        min_length=1, description="Brokers to ask first, each host:port."
    )
    topics: TopicsConfig = Field(default=TopicsConfig(), description="The topics.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How brokers are spoken to."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How we prove who we are; with SASL only."
    )
    tls: Tls = Field(default=Tls(), description="TLS; used with SSL and SASL_SSL.")
    linger_ms: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="How long a record waits for company, in ms; up to 4 times as long while others are unanswered.",
    )
    delivery_timeout_s: float = Field(
        default=30.0,
        ge=3,
        le=3600,
        description="After so many seconds unanswered a record is sent anew by a new producer.",
    )

    @model_validator(mode="after")
    def _sasl(self) -> Self:
        if self.security_protocol.startswith("SASL") != (self.sasl_mechanism is not None):
            raise ValueError(
                "sasl_mechanism goes with security_protocol SASL_PLAINTEXT or SASL_SSL, and only with these"
            )
        return self


class LimitsConfig(Config):
    """What bounds the bridge."""

    max_payload_bytes: int = Field(
        default=1 << 20, ge=1024, le=64 << 20, description="A larger payload is a dead letter, in bytes."
    )
    max_in_flight: int = Field(
        default=1000,
        ge=1,
        le=65535,
        description="Messages not yet acknowledged by Kafka, at most (MQTT's receive maximum).",
    )
    max_in_flight_bytes: int = Field(
        default=32 << 20,
        ge=1 << 20,
        description="Their payloads together, at most, in bytes; memory is about three times that.",
    )

    max_held_per_node: int = Field(
        default=1000, ge=1, le=65535, description="Messages of a foreign node held for its births, at most."
    )
    max_held_bytes: int = Field(
        default=16 << 20, ge=1 << 20, description="What is held for all foreign nodes together, at most, in bytes."
    )
    max_metrics_per_node: int = Field(
        default=50_000,
        ge=1,
        le=1_000_000,
        description="Metrics of a foreign node whose names are kept, and of one DATA payload of it, at most.",
    )
    max_names_bytes: int = Field(
        default=128 << 20, ge=1 << 20, description="Names of all foreign nodes together, at most, in bytes."
    )


class HostConfig(Config):
    """What the bridge is to Sparkplug nodes: a host application."""

    id: str | None = Field(default=None, description="Host id, told in STATE; none: mqtt.client_id.")
    offline_after_s: int = Field(
        default=5, ge=0, le=3600, description="So long after a lost connection the broker says that we are offline."
    )
    reorder_wait_s: float = Field(
        default=2.0, ge=0, le=60, description="How long a missing message (by seq) is waited for, in seconds."
    )
    birth_wait_s: float = Field(
        default=5.0, ge=0, le=60, description="How long data is held for the births that explain it, in seconds."
    )

    @field_validator("id")
    @classmethod
    def _id(cls, host_id: str | None) -> str | None:
        if host_id is not None:
            check_identifier(host_id, "host")
        return host_id


class HealthConfig(Config):
    """HTTP on loopback: GET /healthz."""

    port: int = Field(ge=0, le=65535, description="TCP port; 0: any free one, named in the log.")


class BridgeConfig(Config):
    """The whole bridge."""

    mqtt: MqttConfig = Field(description="The MQTT broker.")
    groups: tuple[str, ...] = Field(
        default=(ALL_GROUPS,), min_length=1, description='Sparkplug groups that this bridge carries; "+": all of them.'
    )
    former_groups: tuple[str, ...] = Field(
        default=(),
        description="Groups that this bridge no longer carries; what the broker still keeps for it of them is carried.",
    )
    host: HostConfig = Field(default=HostConfig(), description="What the bridge is to Sparkplug nodes.")
    kafka: KafkaConfig = Field(description="The Kafka cluster.")
    limits: LimitsConfig = Field(default=LimitsConfig(), description="What bounds the bridge.")
    mark_interval_ms: int = Field(
        default=50, ge=10, le=5000, description="How often nodes are told what is durable, in ms."
    )
    status_interval_s: float = Field(default=60.0, ge=1, description="How often the status is logged, in seconds.")
    drain_timeout_s: float = Field(
        default=20.0, ge=0, le=600, description="How long a stop waits for Kafka, in seconds."
    )
    health: HealthConfig | None = Field(default=None, description="Health over HTTP; none: no port is opened.")

    @property
    def host_id(self) -> str:
        """What the bridge calls itself in STATE."""
        return self.host.id or self.mqtt.client_id

    @model_validator(mode="after")
    def _host_id(self) -> Self:
        if self.host.id is None:
            try:
                check_identifier(self.mqtt.client_id, "host")
            except TopicError as exc:
                raise ValueError(f"mqtt.client_id cannot be the host's id, so host.id is needed: {exc}") from exc
        return self

    @model_validator(mode="after")
    def _former_groups(self) -> Self:
        if both := set(self.groups) & set(self.former_groups):
            raise ValueError(f"{', '.join(sorted(both))} cannot be in groups and in former_groups")
        return self

    @field_validator("groups", "former_groups")
    @classmethod
    def _groups(cls, groups: tuple[str, ...]) -> tuple[str, ...]:
        if ALL_GROUPS in groups and len(groups) > 1:
            raise ValueError(f'"{ALL_GROUPS}" stands alone: it is every group')
        if len(set(groups)) < len(groups):
            raise ValueError("a group is named twice")
        for group in groups:
            if group != ALL_GROUPS:
                check_identifier(group, "group")
        return groups
