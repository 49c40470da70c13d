"""The uplink: the spool's batches, delivered to the broker until the bridge says that Kafka has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.uplink.births import NodeIdentity
from edge.uplink.config import MqttConfig
from edge.uplink.status import UplinkStatus

if TYPE_CHECKING:
    from edge.uplink.uplink import Uplink

__all__ = ["MqttConfig", "NodeIdentity", "Uplink", "UplinkStatus"]


def __getattr__(name: str) -> object:
    """Loads paho where it is needed: a configuration is checked without it."""
    if name != "Uplink":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edge.uplink.uplink import Uplink  # noqa: PLC0415 - see above

    return Uplink
