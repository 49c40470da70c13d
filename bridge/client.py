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

from bridge.packets import PUBACK, MalformedError, Publish, packet_bounds, pubacks, read_packets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bridge.packets import Packet

_READ_BYTES: Final = 1 << 17


class SturdyClient(paho.Client):
    """Reads all that has come at once, and hands the PUBLISHes among it to `on_publishes`, in their order."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - paho's own
        super().__init__(*arguments, **options)
        self._unread = bytearray()  # of a packet that has not come whole
        self.on_publishes: Callable[[list[Publish]], None] = lambda _publishes: None

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
        try:
            if self._unread:
                self._unread += received
                if packet_bounds(self._unread, 0) is None:
                    # A large packet comes in many pieces, which are not to be copied each time.
                    return MQTTErrorCode.MQTT_ERR_SUCCESS
                received = bytes(self._unread)
            packets, end = read_packets(received)
            self._unread = bytearray(memoryview(received)[end:])
            return self._take_packets(packets)
        except (MalformedError, MalformedPacket):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _take_packets(self, packets: Iterable[Publish | Packet]) -> MQTTErrorCode:
        publishes: list[Publish] = []
        for packet in packets:
            if isinstance(packet, Publish):
                publishes.append(packet)
                continue
            self._hand_on(publishes)
            publishes = []
            result = self._take_packet(packet)
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS or self._sock is None:
                # It was the last word on this connection.
                return result
        self._hand_on(publishes)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _hand_on(self, publishes: list[Publish]) -> None:
        if publishes:
            self.on_publishes(publishes)

    def _take_packet(self, packet: Packet) -> MQTTErrorCode:
        self._in_packet = {
            "command": packet.header,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(packet.body),
            "packet": bytearray(packet.body),
            "to_process": 0,
            "pos": 0,
        }
        return self._packet_handle()
