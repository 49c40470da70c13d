"""One connection to the broker: paho's callbacks made into asyncio futures.

A connection that is lost is not repaired: a new Link, with a new paho client, takes its place. Paho would otherwise
send its old messages again before the births of the new session.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from contract.config import ConfigError
from edge.errors import UplinkError
from edge.tls import TellingSocket, explain, explain_text
from edge.uplink.inbox import Incoming
from edge.uplink.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from edge.uplink.config import MqttConfig

logger = logging.getLogger(__name__)

NO_MATCHING_SUBSCRIBERS: Final = 0x10
TOO_LARGE: Final = 0x95
FIRST_FAILURE: Final = 0x80
# Not one of MQTT's: nothing came back before the connection was lost.
LOST: Final = 0x100
_RECEIVE_MAXIMUM: Final = 100
_DEFAULT_RECEIVE_MAXIMUM: Final = 65_535
# Commands and marks are far smaller: a broker that has something larger for us keeps it to itself.
_MAXIMUM_PACKET_BYTES: Final = 64 * 1024
# MQTT's own bound on a packet.
_DEFAULT_MAXIMUM_PACKET_BYTES: Final = 268_435_455
# What a PUBLISH has beside its payload, at most: topic, stamp, lengths.
_ENVELOPE_BYTES: Final = 1024
_DISCONNECT_WITH_WILL: Final = 0x04
_CLOSE_TIMEOUT_S: Final = 3.0


def delivered(reason: int) -> bool:
    """Whether a PUBACK says that somebody got the message, or that it waits for one who will."""
    return reason < FIRST_FAILURE and reason != NO_MATCHING_SUBSCRIBERS


class Link:
    """A connection, made by `connect`. `on_message` gets what comes; it must not use the link at once."""

    def __init__(self, config: MqttConfig, client_id: str, on_message: Callable[[Incoming], None]) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.receive_maximum = _DEFAULT_RECEIVE_MAXIMUM
        self.max_payload_bytes = _DEFAULT_MAXIMUM_PACKET_BYTES
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._on_message = on_message
        self._answers: dict[tuple[str, int], asyncio.Future[int]] = {}
        self._connack: asyncio.Future[int] = self._loop.create_future()
        self._client = self._new_client(client_id)
        self._pump = Pump(self._client, self._lose)
        self._dialing: asyncio.Future[None] | None = None
        # Why TLS ended, which paho tells its log alone.
        self._complaint: str | None = None

    @classmethod
    async def connect(
        cls, config: MqttConfig, client_id: str, will: tuple[str, bytes], on_message: Callable[[Incoming], None]
    ) -> Self:
        """An established connection whose will (topic and payload) the broker holds; raises UplinkError."""
        try:
            link = cls(config, client_id, on_message)
        except ConfigError as exc:
            raise UplinkError(f"certificates or password for {config.host} cannot be used: {exc}") from exc
        try:
            await link._open(will)
        except BaseException:
            await link.close()
            raise
        return link

    @property
    def in_flight(self) -> int:
        """Messages that the broker has not answered yet."""
        return len(self._answers)

    def check(self) -> None:
        """Raises UplinkError where it is lost."""
        if self.lost.done():
            raise UplinkError(f"connection lost: {self.lost.result()}")

    async def subscribe(self, topic: str) -> None:
        """Subscribes at QoS 1, and waits until the broker has agreed; raises UplinkError."""
        code, mid = self._client.subscribe(topic, qos=1)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise UplinkError(f"{self._where}: {paho.error_string(code)}")
        reason = await self._expect("suback", mid)
        if reason >= FIRST_FAILURE:
            raise UplinkError(
                f"{self._where} refuses the subscription to {topic}: {_spell(PacketTypes.SUBACK, reason)}"
            )

    def unsubscribe(self, topic: str) -> None:
        """Takes a subscription back, and does not wait for the broker's answer."""
        if not self.lost.done():
            self._client.unsubscribe(topic)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, stamp: Sequence[tuple[str, str]] = ()
    ) -> asyncio.Future[int]:
        """Sends without waiting. The future gets the PUBACK's reason, at QoS 0 a 0 once it is written; or `LOST`."""
        properties = _properties(PacketTypes.PUBLISH)
        if stamp:
            properties.UserProperty = list(stamp)
        info = self._client.publish(topic, payload, qos=qos, properties=properties)
        return self._expect("puback", info.mid)

    async def close(self, *, tell_will: bool = False) -> None:
        """Says goodbye and hangs up; unless asked to, the broker then does not tell the will."""
        if self._dialing is not None:
            # A thread cannot be cancelled, and what it opens must not outlive us.
            await asyncio.wait([self._dialing], timeout=_CLOSE_TIMEOUT_S)
            if not self._dialing.done():
                self._dialing.add_done_callback(lambda _: self._pump.stop())
        reason = ReasonCode(PacketTypes.DISCONNECT, identifier=_DISCONNECT_WITH_WILL) if tell_will else None
        self._client.disconnect(reason)
        if self._connack.done():
            await asyncio.wait([self.lost], timeout=_CLOSE_TIMEOUT_S)
        self._pump.stop()
        self._lose("closed")

    @property
    def _where(self) -> str:
        return f"broker {self._config.host}:{self._config.port}"

    def _new_client(self, client_id: str) -> paho.Client:
        config = self._config
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, reconnect_on_failure=False)
        client.connect_timeout = config.connect_timeout_s
        # The uplink's window and the broker's receive maximum are the bounds; paho's own would only hide them.
        client.max_inflight_messages_set(_DEFAULT_RECEIVE_MAXIMUM)
        if config.username is not None:
            client.username_pw_set(config.username, config.password())
        if config.tls is not None:
            context = config.tls.context()
            context.sslsocket_class = TellingSocket
            client.tls_set_context(context)
        client.enable_logger(self._paho_log())
        client.on_socket_open = _send_at_once
        client.on_connect = self._paho_connected
        client.on_disconnect = self._paho_disconnected
        client.on_publish = self._paho_published
        client.on_subscribe = self._paho_subscribed
        client.on_message = self._paho_message
        return client

    def _paho_log(self) -> logging.Logger:
        log = logging.Logger("paho", logging.ERROR)  # noqa: LOG001 - it is nobody's but this link's
        log.addFilter(self._paho_complained)
        return log

    async def _open(self, will: tuple[str, bytes]) -> None:
        self._client.will_set(*will, qos=1)
        try:
            self._dialing = asyncio.ensure_future(asyncio.to_thread(self._dial))
            await asyncio.shield(self._dialing)
            self._pump.start()
            async with asyncio.timeout(self._config.connect_timeout_s):
                reason = await self._connack
        except TimeoutError:
            raise UplinkError(f"{self._where} does not answer") from None
        except (OSError, ValueError) as exc:
            raise UplinkError(f"{self._where} cannot be reached: {explain(exc) or exc}") from exc
        if reason == LOST:
            raise UplinkError(f"{self._where} hangs up on us: {self.lost.result()}")
        if reason != 0:
            raise UplinkError(f"{self._where} refuses the connection: {_spell(PacketTypes.CONNACK, reason)}")

    def _dial(self) -> None:
        config = self._config
        properties = _properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = _RECEIVE_MAXIMUM
        properties.MaximumPacketSize = _MAXIMUM_PACKET_BYTES
        # No session is kept, as Sparkplug has it: a command that waited there and that paho cannot read would end
        # one connection after the other.
        self._client.connect(config.host, config.port, config.keepalive_s, clean_start=True, properties=properties)

    def _expect(self, kind: str, mid: int) -> asyncio.Future[int]:
        answer: asyncio.Future[int] = self._loop.create_future()
        if self.lost.done():
            answer.set_result(LOST)
        else:
            self._answers[kind, mid] = answer
        return answer

    def _answer(self, kind: str, mid: int, reason: int) -> None:
        answer = self._answers.pop((kind, mid), None)
        if answer is not None and not answer.done():
            answer.set_result(reason)

    def _lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)
        if not self._connack.done():
            self._connack.set_result(LOST)
        for kind, mid in list(self._answers):
            self._answer(kind, mid, LOST)

    # Called by paho, which holds its lock meanwhile.

    def _paho_complained(self, record: logging.LogRecord) -> bool:
        self._complaint = explain_text(record.getMessage()) or self._complaint
        return False  # the uplink tells it

    def _paho_connected(
        self, _client: paho.Client, _userdata: object, _flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self.receive_maximum = getattr(properties, "ReceiveMaximum", _DEFAULT_RECEIVE_MAXIMUM)
        most_bytes = getattr(properties, "MaximumPacketSize", _DEFAULT_MAXIMUM_PACKET_BYTES)
        self.max_payload_bytes = max(0, most_bytes - _ENVELOPE_BYTES)
        if not self._connack.done():
            self._connack.set_result(reason.value)

    def _paho_disconnected(
        self, _client: paho.Client, _userdata: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._lose(self._complaint or str(reason))

    def _paho_published(
        self, _client: paho.Client, _userdata: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        self._answer("puback", mid, reason.value)

    def _paho_subscribed(
        self, _client: paho.Client, _userdata: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        self._answer("suback", mid, max(reason.value for reason in reasons))

    def _paho_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        self._on_message(Incoming(message.topic, bytes(message.payload), message.retain))


def _send_at_once(_client: paho.Client, _userdata: object, sock: object) -> None:
    # Else a small batch waits until the one before it is acknowledged, up to 40 ms; paho leaves it so.
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def spell_puback(reason: int) -> str:
    """Why a message was not taken."""
    if reason == NO_MATCHING_SUBSCRIBERS:
        return "reach nobody: no bridge has subscribed"
    return f"are refused: {_spell(PacketTypes.PUBACK, reason)}"


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho leaves it untyped


def _spell(packet_type: int, reason: int) -> str:
    """A reason as MQTT calls it."""
    if reason == LOST:
        return "the connection was lost"
    try:
        return f"{ReasonCode(packet_type, identifier=reason)} ({reason})"
    except KeyError:
        return f"reason {reason}"
