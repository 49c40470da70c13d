"""paho's client, made to survive every PUBLISH that a broker lets through.

What paho cannot read it answers by ending the connection, and the broker sends the same message again on the next:
one message would keep the bridge from all others for ever. There are two such: a user property that holds U+FEFF,
which MQTT allows and paho refuses; and properties by the hundred thousand, over which paho takes quadratic time, so
that keep-alive fails.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as paho
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.properties import VariableByteIntegers

if TYPE_CHECKING:
    from paho.mqtt.enums import MQTTErrorCode

logger = logging.getLogger(__name__)

# A stamp takes about a hundred bytes.
MAX_PROPERTY_BYTES: Final = 8 * 1024
_NO_PROPERTIES: Final = b"\0"
_QOS_BITS: Final = 0x06


class SturdyClient(paho.Client):
    """Hands a PUBLISH whose properties are too long or cannot be read to on_message without them."""

    def _handle_publish(self) -> MQTTErrorCode:
        header, packet = self._in_packet["command"], self._in_packet["packet"]
        begin, end = _properties(header, packet)
        if end - begin <= MAX_PROPERTY_BYTES:
            try:
                return super()._handle_publish()
            except (MalformedPacket, UnicodeDecodeError) as exc:
                logger.debug("MQTT: properties that cannot be read: %s", exc)
        self._in_packet["packet"] = packet[:begin] + _NO_PROPERTIES + packet[end:]
        return super()._handle_publish()


def _properties(header: int, packet: bytes | bytearray) -> tuple[int, int]:
    """Where the properties begin, their length included, and where they end, in what follows the fixed header."""
    begin = 2 + int.from_bytes(packet[:2]) + (2 if header & _QOS_BITS else 0)
    length, prefix = VariableByteIntegers.decode(packet[begin : begin + 4])  # type: ignore[no-untyped-call]  # paho's
    return begin, begin + prefix + length
