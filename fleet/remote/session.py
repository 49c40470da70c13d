"""A connection to the broker for as long as a question and its answer take."""

from __future__ import annotations

import math
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet.errors import FleetError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

_PATIENCE_S: Final = 10.0
_KEEPALIVE_S: Final = 30
_FIRST_FAILURE: Final = 0x80
_NOBODY_LISTENS: Final = 0x10
# Nodes may say more than we read; what is asked for is far less.
_MAX_WAITING: Final = 2000
_MAX_PACKET_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and who we are to it; without TLS on this machine's own loopback only."""

    host: str
    port: int
    client_id: str = ""
    tls: ssl.SSLContext | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


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
            raise FleetError(f"{self._where} cannot be reached: {exc}") from exc
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

    def subscribe(self, topics: Sequence[str]) -> None:
        """Has what comes on these topics given by `next`."""
        code, mid = self._client.subscribe([(topic, 1) for topic in topics])
        self._check(code)
        reason = self._reason("suback", mid or 0, "the subscription")
        if reason >= _FIRST_FAILURE:
            raise FleetError(f"{self._where} does not let us listen: {_spelt(PacketTypes.SUBACK, reason)}")

    def command(self, topic: str, payload: bytes, expires_s: float) -> None:
        """Publishes a command, which is worth nothing after so long: the broker drops it then.

        Raises NobodyListensError where nobody gets it.
        """
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
        properties.MessageExpiryInterval = math.ceil(expires_s)
        sent = self._client.publish(topic, payload, qos=1, properties=properties)
        self._check(sent.rc)
        reason = self._reason("puback", sent.mid, "the command")
        if reason == _NOBODY_LISTENS:
            raise NobodyListensError("the node is not connected to the broker: nobody got the command")
        if reason >= _FIRST_FAILURE:
            raise FleetError(f"{self._where} does not let us command: {_spelt(PacketTypes.PUBACK, reason)}")

    def next(self, deadline_s: float) -> Message | None:
        """What came, None when nothing has until then (in terms of `time.monotonic`)."""
        try:
            message = self._came.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            return None
        if message is None:
            raise FleetError(f"the connection to {self._where} is lost: {self._lost}")
        return message

    @property
    def _where(self) -> str:
        return f"the broker at {self._broker.host}:{self._broker.port}"

    def _prepare(self) -> None:
        client, broker = self._client, self._broker
        client.connect_timeout = _PATIENCE_S
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
            raise FleetError(f"{self._where} refuses the connection: {_spelt(PacketTypes.CONNACK, reason)}")

    def _check(self, code: MQTTErrorCode) -> None:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise FleetError(f"the connection to {self._where} is lost: {self._lost or paho.error_string(code)}")

    def _reason(self, kind: str, mid: int, what: str) -> int:
        """The broker's answer, waited for."""
        with self._answered:
            self._answered.wait_for(lambda: (kind, mid) in self._reasons or self._lost is not None, _PATIENCE_S)
            if (kind, mid) in self._reasons:
                return self._reasons.pop((kind, mid))
        if self._lost is None:
            raise FleetError(f"{self._where} does not answer to {what} within {_PATIENCE_S:g} s")
        also = ": is our certificate good, and the fleet's?" if kind == "connack" and self._broker.tls else ""
        raise FleetError(f"{self._where} hangs up ({self._lost}){also}")

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
        # What the broker has kept from before is no answer. What there is no room for is lost, as at QoS 0.
        if not message.retain and self._came.qsize() < _MAX_WAITING:
            self._came.put(Message(message.topic, bytes(message.payload)))


def _spelt(packet_type: int, reason: int) -> str:
    try:
        return str(ReasonCode(packet_type, identifier=reason))
    except KeyError:
        return f"reason {reason}"
