"""The uplink: the spool's batches, delivered to the broker until the bridge says that Kafka has them."""

from __future__ import annotations

from edge.uplink.births import NodeIdentity
from edge.uplink.config import MqttConfig
from edge.uplink.uplink import Uplink, UplinkStatus

__all__ = ["MqttConfig", "NodeIdentity", "Uplink", "UplinkStatus"]
