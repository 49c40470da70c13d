"""The uplink: the spool's batches, delivered to the broker until the bridge says that Kafka has them."""

from __future__ import annotations

from edge.uplink.births import NodeIdentity
from edge.uplink.uplink import Uplink, UplinkStatus

__all__ = ["NodeIdentity", "Uplink", "UplinkStatus"]
