"""Simulated edge nodes on one MQTT connection: stamped DDATA, so many readings a second.

    python -m bench.fleet --port 1883 --nodes 10 --metrics 20 --messages-per-second 50 --seconds 30

A reading's value follows from who measured it and when (`value_of`), so whoever has the tables can check each of them.
One connection serves all nodes: what a node costs the broker is not what is measured here. It needs no answer from the
bridge, and ends when the broker has taken all.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contract.datatypes import DataType
from contract.delivery import BatchId, BatchStamp
from contract.sparkplug import BD_SEQ, REBIRTH, SEQ_MODULUS, Metric, Payload, encode
from contract.topics import MessageType, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GROUP: Final = "fleet"
DEVICE: Final = "device"
_IN_FLIGHT: Final = 500
_TAKEN_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who publishes what: `nodes` nodes with a device of `metrics` metrics each.

    A message has `readings` readings, all metrics once unless told otherwise; the metrics take turns.
    """

    nodes: int = 10
    metrics: int = 20
    readings: int | None = None
    group: str = GROUP

    @property
    def series(self) -> int:
        """How many series there are."""
        return self.nodes * self.metrics

    @property
    def readings_a_message(self) -> int:
        """How many readings a message has."""
        return self.metrics if self.readings is None else self.readings

    @property
    def span_ms(self) -> int:
        """How many ms later than the first reading of a message its last was sampled: as often as metrics repeat."""
        return (self.readings_a_message - 1) // self.metrics


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to the broker."""

    topic: str
    payload: bytes
    properties: Properties


def value_of(node: int, metric: int, batch_no: int) -> float:
    """What metric `metric` of node `node` reads in that node's batch."""
    return node * 1e6 + metric * 1e3 + batch_no / 8


def node_name(node: int) -> str:
    """Its Sparkplug id."""
    return f"node-{node:04}"


def metric_name(metric: int) -> str:
    """As an agent names its points."""
    return f"line/unit{metric % 8}/value{metric:05}"


def birth(fleet: Fleet, node: int, at_ms: int) -> Message:
    """A node's NBIRTH, so that nobody has to ask for it."""
    metrics = (
        Metric(BD_SEQ, DataType.INT64, 0, at_ms),
        Metric(REBIRTH, DataType.BOOLEAN, value=False, timestamp_ms=at_ms),
    )
    topic = Topic(fleet.group, MessageType.NBIRTH, node_name(node))
    return Message(str(topic), encode(Payload(at_ms, metrics, 0)), Properties(PacketTypes.PUBLISH))  # type: ignore[no-untyped-call]  # paho's


def data(fleet: Fleet, node: int, batch: BatchId, at_ms: int) -> Message:
    """A stamped DDATA of a node's device, sampled at one time, or from then on where metrics repeat."""
    size = fleet.readings_a_message
    first = (batch.batch_no - 1) * size
    numbers = [((first + place) % fleet.metrics, place // fleet.metrics) for place in range(size)]
    metrics = tuple(
        Metric(metric_name(m), DataType.DOUBLE, value_of(node, m, batch.batch_no), at_ms + later)
        for m, later in numbers
    )
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
    # It keeps nothing, having the broker's word.
    properties.UserProperty = BatchStamp(batch, batch.batch_no).to_properties()
    topic = Topic(fleet.group, MessageType.DDATA, node_name(node), DEVICE)
    return Message(str(topic), encode(Payload(at_ms, metrics, batch.batch_no % SEQ_MODULUS)), properties)


class Publisher:
    """A connection that publishes at QoS 1 and counts what the broker has taken."""

    def __init__(self, port: int, client_id: str = "bench-fleet") -> None:
        self.sent = 0
        self.taken = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(_IN_FLIGHT)
        self._client.on_publish = self._on_publish
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, message: Message) -> None:
        """Sends it, waiting while too much is on its way."""
        while self.sent - self.taken >= _IN_FLIGHT:
            time.sleep(0.001)
        self.sent += 1
        self._client.publish(message.topic, message.payload, qos=1, properties=message.properties)

    def close(self) -> None:
        """Waits until the broker has all, and disconnects; raises TimeoutError."""
        deadline = time.monotonic() + _TAKEN_TIMEOUT_S
        try:
            while self.taken < self.sent:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the broker has taken {self.taken} of {self.sent} messages")
                time.sleep(0.01)
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _on_publish(self, *_: object) -> None:
        self.taken += 1


def run(
    fleet: Fleet, publisher: Publisher, *, messages_per_second: float, stop: Callable[[int], bool], epoch: int
) -> list[int]:
    """Publishes, the nodes taking turns, until `stop(messages)`; how many batches each node has sent.

    Every node was born first. A reading is sampled when its message is made, later than the node's last by a
    millisecond at least.
    """
    now_ms = time.time_ns() // 1_000_000
    batches, last_ms = [0] * fleet.nodes, [now_ms] * fleet.nodes
    for node in range(fleet.nodes):
        publisher.publish(birth(fleet, node, now_ms))
    began, number = time.monotonic(), 0
    while not stop(number):
        time.sleep(max(0.0, began + number / messages_per_second - time.monotonic()))
        node = number % fleet.nodes
        batches[node] += 1
        at_ms = max(last_ms[node] + 1, time.time_ns() // 1_000_000)
        last_ms[node] = at_ms + fleet.span_ms
        publisher.publish(data(fleet, node, BatchId(epoch, batches[node]), at_ms))
        number += 1
    return batches


def main(arguments: Sequence[str] | None = None) -> None:
    """Publishes for so long."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True, help="Mosquitto's, on loopback")
    parser.add_argument("--nodes", type=int, default=10, help="nodes that take turns (10)")
    parser.add_argument("--metrics", type=int, default=20, help="of each node (20)")
    parser.add_argument("--readings", type=int, help="in each message (all metrics once)")
    parser.add_argument("--messages-per-second", type=float, default=50.0, help="of all nodes together (50)")
    parser.add_argument("--seconds", type=float, default=30.0, help="for so long (30)")
    options = parser.parse_args(arguments)
    fleet = Fleet(options.nodes, options.metrics, options.readings)
    publisher = Publisher(options.port)
    until = time.monotonic() + options.seconds
    batches = run(
        fleet,
        publisher,
        messages_per_second=options.messages_per_second,
        stop=lambda _: time.monotonic() >= until,
        epoch=time.time_ns() // 1_000_000,
    )
    publisher.close()
    print(sum(batches))


if __name__ == "__main__":
    main()
