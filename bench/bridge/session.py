"""A persistent session at the broker that somebody left, and the messages that wait in it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from bench.fleet import DEVICE, GROUP, Fleet, Message, Publisher, birth, data, node_name, value_of
from contract.delivery import BatchId
from contract.topics import MessageType, Topic

if TYPE_CHECKING:
    from collections.abc import Iterator

FILTER: Final = f"spBv1.0/{GROUP}/#"
RECEIVE_MAXIMUM: Final = 1000
NODES: Final = 10
_SESSION_EXPIRY_S: Final = 3600
_EPOCH: Final = 1_700_000_000_000
_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Work:
    """`messages` messages of `readings` readings each, from ten nodes, as Sparkplug or as InfluxDB's lines."""

    messages: int
    readings: int
    influx: bool = False

    def all(self) -> Iterator[Message]:
        """The births, and the messages."""
        fleet, now_ms = Fleet(NODES, self.readings), time.time_ns() // 1_000_000
        if not self.influx:
            yield from (birth(fleet, node, now_ms) for node in range(NODES))
        for number in range(self.messages):
            node, batch_no = number % NODES, number // NODES + 1
            message = data(fleet, node, BatchId(_EPOCH, batch_no), now_ms + batch_no)
            yield self._as_lines(node, batch_no, now_ms + batch_no) if self.influx else message

    @property
    def records(self) -> int:
        """How many records Kafka has in the end."""
        return self.messages + (0 if self.influx else NODES)

    def _as_lines(self, node: int, batch_no: int, at_ms: int) -> Message:
        """The same readings as one line."""
        fields = ",".join(f"value{m:05}={value_of(node, m, batch_no)}" for m in range(self.readings))
        topic = Topic(GROUP, MessageType.DDATA, node_name(node), DEVICE)
        line = f"line,node={node_name(node)} {fields} {at_ms * 1_000_000}"
        return Message(str(topic), line.encode(), Properties(PacketTypes.PUBLISH))  # type: ignore[no-untyped-call]  # paho's


def connect_properties() -> Properties:
    """What the bridge says of its session, too."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
    properties.SessionExpiryInterval = _SESSION_EXPIRY_S
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    return properties


def leave(port: int, client_id: str, *, mqtt5: bool, topic_filter: str = FILTER) -> None:
    """Makes the session, subscribes at QoS 1, and goes; raises TimeoutError."""
    subscribed = threading.Event()
    if mqtt5:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        client.connect("127.0.0.1", port, clean_start=False, properties=connect_properties())
    else:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=False)
        client.connect("127.0.0.1", port)

    def subscribe(*_: object) -> None:
        # Mosquitto leaves noLocal as it was when the bridge subscribes again, and would bring it its own commands.
        if mqtt5:
            client.subscribe(topic_filter, options=SubscribeOptions(qos=1, noLocal=True))
        else:
            client.subscribe(topic_filter, 1)

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: subscribed.set()
    client.loop_start()
    try:
        if not subscribed.wait(_TIMEOUT_S):
            raise TimeoutError(f"the broker at port {port} does not answer")
    finally:
        client.disconnect()
        client.loop_stop()


def fill(port: int, work: Work) -> None:
    """Publishes the work, which the broker keeps."""
    publisher = Publisher(port, "bench-filler")
    for message in work.all():
        publisher.publish(message)
    publisher.close()
