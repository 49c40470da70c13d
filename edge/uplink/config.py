"""The uplink's part of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from contract.config import Credentials, Tls
from contract.topics import check_identifier


def _host_identifier(identifier: str) -> str:
    check_identifier(identifier, "primary host")
    return identifier


class MqttConfig(Credentials):
    """The broker, and how hard to press on it."""

    host: str = Field(description="name or address of the broker")
    port: int = Field(default=1883, ge=1, le=65_535, description="TCP port of the broker; 8883 is usual with TLS")
    tls: Tls | None = Field(default=None, description="encrypts the connection; none: plain TCP")
    client_id: str | None = Field(default=None, description="MQTT client id; none: GROUP-NODE")
    keepalive_s: int = Field(default=30, ge=1, le=3600, description="seconds of silence after which the line is tested")
    connect_timeout_s: float = Field(default=5.0, gt=0, le=60, description="seconds to wait for the broker's answer")
    profile: Literal["durable", "strict"] = Field(
        default="durable",
        description="durable: kept until the bridge says that Kafka has it; "
        "strict: as Sparkplug 3.0 has it for any host, sent once at QoS 0 and forgotten",
    )
    primary_host: Annotated[str, AfterValidator(_host_identifier)] | None = Field(
        default=None, description="Sparkplug id of the host whose STATE is waited for; none: nobody is waited for"
    )
    window: int = Field(
        default=256, ge=1, le=10_000, description="alarm and live batches, each, sent but not yet known to be durable"
    )
    backfill_window: int = Field(default=128, ge=1, le=10_000, description="the same for what is replayed, in batches")
    backfill_bytes_per_s: float = Field(
        default=262_144, gt=0, description="bytes a second at which an outage's readings are replayed"
    )
    backfill_batches_per_s: float = Field(
        default=200, gt=0, description="batches a second at which an outage's readings are replayed"
    )
    image_bytes_per_s: float = Field(default=32_768, gt=0, description="bytes a second for images of cameras")
    resend_after_s: float = Field(
        default=5.0, gt=0, description="seconds without a durable mark before resending; doubles up to resend_max_s"
    )
    resend_max_s: float = Field(default=60.0, gt=0, description="the longest wait before resending, in seconds")
    historical_after_s: float = Field(default=60.0, gt=0, description="age in seconds from which a batch is historical")
