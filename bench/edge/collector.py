"""The end of the line: subscribes to everything, counts the values, and answers our agent as the bridge would."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from contract.delivery import BatchStamp, DurableMark
from contract.sparkplug import decode, encode
from contract.topics import MessageType, Topic, parse_topic

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_SPARKPLUG: Final = "spBv1.0/"
_GATEWAY_REQUEST: Final = "v1/devices/me/rpc/request/"
_RESERVED: Final = ("Health/", "Headwater/")


@dataclass
class Count:
    """What has arrived."""

    messages: int = 0
    values: int = 0


class Collector:
    """A subscriber; enter it to connect. `count` may be read at any time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._count = Count()
        self._through: dict[tuple[str, int], int] = defaultdict(int)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "bench-collector", protocol=paho.MQTTv5)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe(
            [("spBv1.0/#", 1), ("telegraf/#", 1), ("v1/gateway/#", 1), (f"{_GATEWAY_REQUEST}+", 1)]
        )

    def __enter__(self) -> Self:
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        subscribed.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def count(self) -> Count:
        """So many messages and values so far."""
        with self._lock:
            return Count(self._count.messages, self._count.values)

    def _take(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        if message.topic.startswith(_SPARKPLUG):
            values = self._take_sparkplug(message)
        elif message.topic.startswith("telegraf"):
            values = _values_in_lines(message.payload.decode())
        elif message.topic.startswith(_GATEWAY_REQUEST):
            # ThingsBoard's answer to the question for the session's limits: there are none. Without it nothing is sent.
            answer = message.topic.replace("request", "response")
            self._client.publish(
                answer, json.dumps({"maxPayloadSize": 65_536, "rateLimits": {}, "gatewayRateLimits": {}})
            )
            values = 0
        else:
            values = _values_in_telemetry(json.loads(message.payload))
        with self._lock:
            self._count.messages += 1
            self._count.values += values

    def _take_sparkplug(self, message: paho.MQTTMessage) -> int:
        topic = parse_topic(message.topic)
        stamp = BatchStamp.from_properties(getattr(message.properties, "UserProperty", []))
        if stamp is None:
            return 0
        key = topic.node, stamp.batch.epoch
        # One broker, one connection, QoS 1: batches come in order.
        self._through[key] = max(self._through[key], stamp.batch.batch_no)
        mark = DurableMark(stamp.batch.epoch, self._through[key])
        self._client.publish(str(Topic(topic.group, MessageType.NCMD, topic.node)), encode(mark.to_payload(1)))
        metrics = decode(bytes(message.payload)).metrics
        return sum(metric.value is not None and not metric.name.startswith(_RESERVED) for metric in metrics)


def _values_in_lines(text: str) -> int:
    """Fields of InfluxDB's line protocol; no name or value of ours has a space or comma in it."""
    return sum(line.split(" ")[1].count(",") + 1 for line in text.splitlines() if line)


def _values_in_telemetry(document: object) -> int:
    """Values of ThingsBoard's gateway telemetry: device -> list of {ts, values}."""
    if not isinstance(document, dict):
        return 0
    entries = [entry for device in document.values() if isinstance(device, list) for entry in device]
    return sum(len(entry.get("values", ())) for entry in entries if isinstance(entry, dict))
