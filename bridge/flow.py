"""The bridge itself: one thread that takes events from a queue, and the core and the two links that it drives.

Threads: paho's network thread and kafka-python's sender thread only put events into the queue (a SimpleQueue, so a
signal handler may, too). All else, every object of the core included, belongs to the thread in `run`, except `Gate`
and `MqttLink`'s generation, which have a lock each; no lock is ever held while another is taken, save that
`MqttLink.acknowledge` calls into paho under its own.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from bridge.acks import AckOrder
from bridge.births import Births
from bridge.counts import Counts
from bridge.errors import BridgeError
from bridge.foreign import ForeignNodes
from bridge.gate import Gate
from bridge.marks import DurableMarks
from bridge.mqtt import Arrival, MqttLink
from bridge.outbox import Answer, Outbox, Shipment
from bridge.presence import Presence
from bridge.producer import Producer
from bridge.triage import triage
from contract.datatypes import DataType
from contract.sparkplug import REBIRTH, Metric, Payload
from contract.topics import MessageType

if TYPE_CHECKING:
    from bridge.acks import Slot
    from bridge.config import BridgeConfig
    from bridge.foreign_node import Outcome
    from bridge.marks import NodeId
    from bridge.packets import Publish
    from bridge.triage import Letter

logger = logging.getLogger(__name__)

_DISCONNECT_TIMEOUT_S: Final = 3.0
_ACKNOWLEDGED_AT_ONCE: Final = 100  # a broker that waits for room gets it while the rest is still on its way
_NARROW_FOR_S: Final = 60.0  # after too much at once, so long fewer messages at a time

Event = Arrival | Answer | BridgeError | None  # None only wakes the loop


class Bridge:
    """Carries MQTT messages to Kafka until `stop` is called or a BridgeError ends it."""

    def __init__(self, config: BridgeConfig) -> None:
        self._config = config
        limits = config.limits
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._gate = Gate(limits.max_in_flight, limits.max_in_flight_bytes)
        self._acks = AckOrder()
        self._released: list[int] = []
        self._released_of = 0
        self._marks = DurableMarks()
        self._births = Births()
        self._foreign = ForeignNodes(config.host, limits)
        self._outbox = Outbox(
            lambda done: Producer(config.kafka, limits.max_payload_bytes, done),
            self._events.put,
            config.kafka.delivery_timeout_s,
            config.kafka.linger_ms / 1000,
        )
        presence = Presence(config.host_id, config.host.offline_after_s)
        self._link = MqttLink(
            config.mqtt, config.groups, config.former_groups, presence, self._gate.admit, self._events.put
        )
        self._packed: deque[Arrival] = deque()  # let in, and not looked at yet
        self._linked = False
        self._narrow_until: float | None = None
        self._counts = Counts()
        self._logged = Counts()
        self._stop_by: float | None = None
        self._stopping = False

    def run(self) -> None:
        """Work until stopped; raises BridgeError when the bridge cannot go on."""
        next_status = time.monotonic() + self._config.status_interval_s
        try:
            while not self._finished():
                self._work(self._config.mark_interval_ms / 1000)
                self._tick()
                if time.monotonic() >= next_status:
                    next_status = time.monotonic() + self._config.status_interval_s
                    self._log_status()
            self._tell_marks()
            self._log_status()
            if left := self._gate.messages:
                logger.warning("stopping with %d messages unacknowledged: the broker keeps them", left)
        finally:
            self._link.stop(_DISCONNECT_TIMEOUT_S)
            self._outbox.close()

    def stop(self) -> None:
        """Take nothing more, deliver what is in flight, then end `run`. May be called by a signal handler."""
        self._stopping = True
        self._events.put(None)

    def fail(self, error: BridgeError) -> None:
        """End `run` with this error."""
        self._events.put(error)

    def health(self) -> dict[str, object]:
        """The state, for GET /healthz."""
        return {
            "mqtt_connected": self._link.connected,
            "kafka_connected": self._outbox.connected,
            "received": self._counts.received,
            "produced": self._counts.produced,
            "dead_letters": self._counts.dead_letters,
            "in_flight": self._gate.messages,
            "in_flight_bytes": self._gate.bytes,
            "turned_away": self._gate.turned_away,
            "nodes": len(self._births),
            "host_id": self._config.host_id,
            **self._foreign.health(),
        }

    def _finished(self) -> bool:
        if not self._stopping:
            return False
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._config.drain_timeout_s
            # Not UNSUBSCRIBE: that would make the broker drop what the session still keeps for us.
            self._gate.close()
            logger.info("stopping: %d messages in flight", self._gate.messages)
        # At each look: what was let in before may have been looked at, and held, since.
        self._ship_held(self._foreign.drain(time.monotonic()))
        return self._gate.messages == 0 or time.monotonic() >= self._stop_by

    def _work(self, for_s: float) -> None:
        """Handle events for so long; sooner when one wakes the loop."""
        until = time.monotonic() + for_s
        while (now_s := time.monotonic()) < until:
            if now_s >= self._outbox.flush_at:
                self._outbox.flush()
            try:
                event = self._events.get(timeout=max(0.0, min(until, self._outbox.flush_at) - now_s))
            except queue.Empty:
                continue
            match event:
                case Arrival():
                    self._packed.append(event)
                case Answer():
                    self._delivered(self._outbox.settle(event))
                case BridgeError():
                    raise event
                case None:
                    return
            self._take_in()
            if len(self._released) >= _ACKNOWLEDGED_AT_ONCE or self._events.empty():
                self._send_acknowledgements()

    def _take_in(self) -> None:
        """Look at what was let in; unpacked or written out it can be larger, so at so much of it at a time."""
        while self._packed:
            generation, received_at_ms, messages = self._packed[0]
            while messages:
                if self._outbox.bytes > self._config.limits.max_in_flight_bytes:
                    return
                self._received(messages.popleft(), generation, received_at_ms)
            self._packed.popleft()

    def _tick(self) -> None:
        self._send_acknowledgements()
        self._outbox.tick()
        if not self._linked and self._outbox.connected and not self._stopping:
            # Only now: what comes before Kafka is there is better kept by the broker.
            self._link.start(self._config.limits.max_in_flight)
            self._linked = True
        self._ship_held(self._foreign.tick(time.monotonic()))
        self._tell_marks()
        self._fit_room(time.monotonic())

    def _fit_room(self, now_s: float) -> None:
        """Connect anew for fewer messages at a time where too much came at once; later for as many as ever."""
        if (room := self._gate.starved(self._link.generation)) is not None:
            logger.info("more at once than may be in flight; connecting anew for %d messages at a time", room)
            self._narrow_until = now_s + _NARROW_FOR_S
        elif self._narrow_until is not None and now_s >= self._narrow_until and not self._stopping:
            room, self._narrow_until = self._config.limits.max_in_flight, None
        else:
            return
        self._link.stop(_DISCONNECT_TIMEOUT_S, soon_back=True)
        self._link.start(room)

    def _received(self, message: Publish, generation: int, received_at_ms: int) -> None:
        self._counts.received += 1
        slot = self._acks.receive(generation, message.message_id) if message.qos else None
        letter = triage(message, received_at_ms, self._config.limits.max_payload_bytes)
        if letter is None:
            self._gate.release(1, message.size_bytes, again=slot is not None)
            if slot is not None:
                self._acknowledge([slot])
            return
        shipment, node = Shipment(letter, message.size_bytes, slot), letter.node
        if node is None or letter.reason is not None:
            self._outbox.ship(shipment)
        elif letter.stamp is None:
            self._received_foreign(node, shipment, generation)
        else:
            self._watch_births(node)
            self._outbox.ship(shipment)

    def _watch_births(self, node: NodeId) -> None:
        """Of a node that stamps its batches births are good to have, and no more."""
        now_s = time.monotonic()
        if node in self._foreign:
            self._ship_held({node: self._foreign.forget(node, now_s)})
        if self._births.should_ask(node, now_s):
            self._ask_births(node, "sends data and has not been seen to be born")

    def _received_foreign(self, node: NodeId, shipment: Shipment, generation: int) -> None:
        if shipment.letter.message_type is MessageType.NBIRTH:
            self._births.born(node)
        self._gate.release(1, shipment.size_bytes, again=shipment.slot is not None)
        self._ship_held(self._foreign.take(node, shipment, generation, time.monotonic()))

    def _ship_held(self, outcomes: dict[NodeId, Outcome]) -> None:
        for node, outcome in outcomes.items():
            for shipment in outcome.ship:
                self._gate.readmit(shipment.size_bytes, again=shipment.slot is not None)
                self._outbox.ship(shipment)
            if outcome.ask is not None:
                self._ask_births(node, outcome.ask)

    def _ask_births(self, node: NodeId, why: str) -> None:
        logger.info("%s/%s %s: asking for its births", *node, why)
        now_ms = time.time_ns() // 1_000_000
        self._link.command(node, Payload(now_ms, (Metric(REBIRTH, DataType.BOOLEAN, value=True, timestamp_ms=now_ms),)))

    def _delivered(self, shipments: list[Shipment]) -> None:
        self._counts.produced += len(shipments)
        for letter in (shipment.letter for shipment in shipments):
            if letter.reason is not None:
                self._set_aside(letter)
            if letter.stamp is not None and letter.node is not None:
                self._marks.acknowledged(letter.node, letter.stamp)
        for again in (True, False):
            sizes = [shipment.size_bytes for shipment in shipments if (shipment.slot is not None) is again]
            if sizes:
                self._gate.release(len(sizes), sum(sizes), again=again)
        self._acknowledge([shipment.slot for shipment in shipments if shipment.slot is not None])

    def _set_aside(self, letter: Letter) -> None:
        self._counts.dead_letters += 1
        if self._counts.dead_letters == self._logged.dead_letters + 1:
            why = letter.route.topic, letter.reason
            logger.warning("set aside a message on %s: %s; more are only counted until the next status line", *why)

    def _acknowledge(self, slots: list[Slot]) -> None:
        """Note what may be acknowledged now; it is sent with others, at once when nothing else is at hand."""
        released = self._acks.complete(slots)
        if released:
            # Whatever is released is of the newest connection.
            if self._acks.generation != self._released_of:
                self._released.clear()
                self._released_of = self._acks.generation
            self._released += released

    def _send_acknowledgements(self) -> None:
        if self._released:
            self._link.acknowledge(self._released_of, self._released)
            self._released = []

    def _tell_marks(self) -> None:
        if not self._link.connected:
            return
        now_ms = time.time_ns() // 1_000_000
        for node, mark in self._marks.take_news():
            self._link.command(node, mark.to_payload(now_ms))

    def _log_status(self) -> None:
        carried, self._logged = self._counts.since(self._logged), self._counts.copy()
        logger.info(
            "%s; in flight %d (%d bytes, oldest %.1f s); %d nodes; MQTT %s, Kafka %s",
            carried,
            self._gate.messages,
            self._gate.bytes,
            self._outbox.oldest_age_s(),
            len(self._births),
            "connected" if self._link.connected else "away",
            "connected" if self._outbox.connected else "away",
        )
