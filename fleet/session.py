"""An operator's connection to the broker, for as long as an errand takes; the broker's word on each thing is heard."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from fleet.errors import FleetError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

_KEEPALIVE_S: Final = 30
_FIRST_FAILURE: Final = 0x80
_NOBODY_LISTENS: Final = 0x10
# Nodes may say more than we read; what is asked for is far less.
_MAX_WAITING: Final = 2000
_MAX_PACKET_BYTES: Final = 4 << 20
# Chunks of 64 kB: 1.3 MB on their way at most.
_IN_FLIGHT: Final = 20


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and who we are to it; without TLS on this machine's own loopback only.

    `patience_s` is how long each of its answers is waited for, `silence_s` after how long without another one all that
    it keeps has come.
    """

    host: str
    port: int
    client_id: str = ""
    tls: ssl.SSLContext | None = None
    patience_s: float = 15.0
    silence_s: float = 15.0
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"the broker at {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Message:
    """What came."""

    topic: str
    payload: bytes


class NobodyListensError(FleetError):
    """The node is not connected."""


class Session:
    """A connection, open within its context; raises FleetError for whatever the broker does not let us do."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        # MQTT 5: a broker that refuses a message says so in no version before.
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, broker.client_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        # None: nothing more will come.
        self._came: queue.Queue[Message | None] = queue.Queue()
        self._answered = threading.Condition()
        self._reasons: dict[tuple[str, int], int] = {}
        self._lost: str | None = None

    def __enter__(self) -> Self:
        self._prepare()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
        properties.MaximumPacketSize = _MAX_PACKET_BYTES
        try:
            self._client.connect(self._broker.host, self._broker.port, _KEEPALIVE_S, properties=properties)
        except (OSError, ValueError) as exc:
            raise FleetError(f"{self._broker} cannot be reached: {exc}") from exc
        self._client.loop_start()
        try:
            self._await_welcome()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()  # noqa: SLF001  # paho leaves that to the garbage collection

    def subscribe(self, topics: Iterable[str]) -> None:
        """Has what comes on these topics from now on given by `next`."""
        # What the broker has kept from before is no answer.
        self._subscribe(topics, SubscribeOptions(1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND))

    def kept(self, topics: Iterable[str]) -> frozenset[str]:
        """Those of these topics at which the broker keeps something; takes its time where it does not."""
        missing = set(topics)
        self._subscribe(missing, SubscribeOptions(0))
        found: set[str] = set()
        while missing and (message := self.next(time.monotonic() + self._broker.silence_s)) is not None:
            found |= missing & {message.topic}
            missing -= found
        return frozenset(found)

    def keep(self, messages: Iterable[tuple[str, bytes]]) -> int:
        """Has the broker keep each payload at its topic, an empty one nothing; how many there were."""
        waiting: deque[tuple[str, int]] = deque()
        count = 0
        for topic, payload in messages:
            if len(waiting) == _IN_FLIGHT:
                self._check_taken(*waiting.popleft())
            waiting.append((topic, self._publish(topic, payload, retain=True)))
            count += 1
        for topic, mid in waiting:
            self._check_taken(topic, mid)
        return count

    def command(self, topic: str, payload: bytes, expires_s: float) -> None:
        """Publishes a command, which is worth nothing after so long: the broker drops it then.

        Raises NobodyListensError where nobody gets it.
        """
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
        properties.MessageExpiryInterval = math.ceil(expires_s)
        mid = self._publish(topic, payload, properties=properties)
        if self._check_taken(topic, mid) == _NOBODY_LISTENS:
            raise NobodyListensError("the node is not connected to the broker: nobody got the command")

    def next(self, deadline_s: float) -> Message | None:
        """What came, None when nothing has until then (in terms of `time.monotonic`)."""
        try:
            message = self._came.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            return None
        if message is None:
            raise FleetError(f"the connection to {self._broker} is lost: {self._lost}")
        return message

    def _prepare(self) -> None:
        client, broker = self._client, self._broker
        client.connect_timeout = broker.patience_s
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        client.on_connect = lambda _client, _data, _flags, reason, _more: self._note("connack", 0, reason.value)
        client.on_subscribe = self._subscribed
        client.on_publish = lambda _client, _data, mid, reason, _more: self._note("puback", mid, reason.value)
        client.on_disconnect = self._disconnected
        client.on_message = self._took

    def _await_welcome(self) -> None:
        if reason := self._reason("connack", 0, "the connection"):
            raise FleetError(f"{self._broker} refuses the connection: {_spelt(PacketTypes.CONNACK, reason)}")

    def _subscribe(self, topics: Iterable[str], options: SubscribeOptions) -> None:
        wanted: Sequence[tuple[str, SubscribeOptions]] = [(topic, options) for topic in topics]
        code, mid = self._client.subscribe(list(wanted))
        self._check(code)
        reason = self._reason("suback", mid or 0, "the subscription")
        if reason >= _FIRST_FAILURE:
            raise FleetError(f"{self._broker} does not let us listen: {_spelt(PacketTypes.SUBACK, reason)}")

    def _publish(
        self, topic: str, payload: bytes, *, retain: bool = False, properties: Properties | None = None
    ) -> int:
        sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        self._check(sent.rc)
        return sent.mid

    def _check_taken(self, topic: str, mid: int) -> int:
        """The broker's reason for having taken a message."""
        reason = self._reason("puback", mid, topic)
        if reason >= _FIRST_FAILURE:
            raise FleetError(f"{self._broker}: {topic} is refused: {_spelt(PacketTypes.PUBACK, reason)}")
        return reason

    def _check(self, code: MQTTErrorCode) -> None:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise FleetError(f"the connection to {self._broker} is lost: {self._lost or paho.error_string(code)}")

    def _reason(self, kind: str, mid: int, what: str) -> int:
        """The broker's answer, waited for."""
        patience_s = self._broker.patience_s
        with self._answered:
            self._answered.wait_for(lambda: (kind, mid) in self._reasons or self._lost is not None, patience_s)
            if (kind, mid) in self._reasons:
                return self._reasons.pop((kind, mid))
        if self._lost is None:
            raise FleetError(f"{self._broker} does not answer to {what} within {patience_s:g} s")
        also = ": is our certificate good, and the fleet's?" if kind == "connack" and self._broker.tls else ""
        raise FleetError(f"{self._broker} hangs up ({self._lost}){also}")

    # Called by paho's thread.

    def _note(self, kind: str, mid: int, reason: int) -> None:
        with self._answered:
            self._reasons[kind, mid] = reason
            self._answered.notify_all()

    def _subscribed(
        self, _client: paho.Client, _data: object, mid: int, reasons: list[ReasonCode], _more: object
    ) -> None:
        self._note("suback", mid, max(reason.value for reason in reasons))

    def _disconnected(
        self, _client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _more: object
    ) -> None:
        with self._answered:
            self._lost = str(reason)
            self._answered.notify_all()
        self._came.put(None)

    def _took(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        # What there is no room for is lost, as at QoS 0.
        if self._came.qsize() < _MAX_WAITING:
            self._came.put(Message(message.topic, bytes(message.payload)))


def _spelt(packet_type: int, reason: int) -> str:
    try:
        return f"{ReasonCode(packet_type, identifier=reason)} ({reason})"
    except KeyError:
        return f"reason {reason}"
