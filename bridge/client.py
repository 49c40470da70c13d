"""paho's client with a reader of its own for PUBLISH: quicker, and no PUBLISH that a broker lets through ends it.

paho asks the kernel three times for each packet, and takes 90 us for a PUBLISH. And what it cannot read it answers by
ending the connection, upon which the broker sends the same message again: one message would keep the bridge from all
others for ever. There are two such: a user property that holds U+FEFF, which MQTT allows and paho refuses; and
properties by the hundred thousand, over which paho takes quadratic time, so that keep-alive fails. All else but PUBLISH
is left to paho.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket

from bridge.packets import PUBACK, PUBLISH, TYPE_BITS, MalformedError, packet_bounds, pubacks, read_publish

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.packets import Publish

_READ_BYTES: Final = 1 << 17
_QOS_2: Final = 2


class UserProperties:
    """What we look at of a message's properties, under paho's name."""

    __slots__ = ("UserProperty",)

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.UserProperty = pairs


class ReceivedMessage(paho.MQTTMessage):
    """paho's message without what only a sent one needs: a condition variable, which takes longer than all the rest."""

    def __init__(self, packet: Publish) -> None:
        self._topic = packet.topic
        self.mid = packet.message_id
        self.qos = packet.qos
        self.retain = bool(packet.header & 1)
        self.payload = packet.payload
        self.properties: Any = UserProperties(packet.user_properties)


class SturdyClient(paho.Client):
    """Reads all that has come at once, and hands each PUBLISH to on_message; of properties only the users'."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - paho's own
        super().__init__(*arguments, **options)
        self._unread = bytearray()

    def acknowledge(self, message_ids: Iterable[int]) -> None:
        """Send PUBACKs, in this order and in one piece."""
        if packets := pubacks(message_ids):
            self._packet_queue(PUBACK, packets, 0, 1)

    def reconnect(self) -> MQTTErrorCode:
        """Connect anew, and forget what was left of a packet."""
        self._unread.clear()
        return super().reconnect()

    def _packet_read(self) -> MQTTErrorCode:
        try:
            received = self._sock_recv(_READ_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not received:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        with self._msgtime_mutex:
            self._last_bytes_received = time.monotonic()
        self._unread += received
        try:
            return self._take_packets()
        except (MalformedError, MalformedPacket):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _take_packets(self) -> MQTTErrorCode:
        unread, begin, result = self._unread, 0, MQTTErrorCode.MQTT_ERR_SUCCESS
        while result == MQTTErrorCode.MQTT_ERR_SUCCESS and (bounds := packet_bounds(unread, begin)) is not None:
            with memoryview(unread) as view:
                body = view[bounds[0] : bounds[1]].tobytes()
            header, begin = unread[begin], bounds[1]
            result = self._take_packet(header, body)
            if self._sock is None:
                # It was the last word on this connection.
                break
        del unread[:begin]
        return result

    def _take_packet(self, header: int, body: bytes) -> MQTTErrorCode:
        if header & TYPE_BITS == PUBLISH and not header >> 1 & _QOS_2:
            if (on_message := self.on_message) is not None:
                on_message(self, self._userdata, ReceivedMessage(read_publish(header, body)))
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        self._in_packet = {
            "command": header,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(body),
            "packet": bytearray(body),
            "to_process": 0,
            "pos": 0,
        }
        return self._packet_handle()
