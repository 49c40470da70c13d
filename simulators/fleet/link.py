"""One node's connection: paho's callbacks made into futures.

A connection that is lost is not repaired: a new Link takes its place, or paho would send its old messages again before
the births of the new session.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from simulators.errors import SimulatorError
from simulators.fleet.pump import Pump

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from typing import Self

    from simulators.fleet.config import BrokerConfig

NO_MATCHING_SUBSCRIBERS: Final = 0x10
FIRST_FAILURE: Final = 0x80
# Not one of MQTT's: the connection was lost before an answer came.
LOST: Final = 0x100
_RECEIVE_MAXIMUM: Final = 100
_DEFAULT_RECEIVE_MAXIMUM: Final = 65_535
_MAXIMUM_PACKET_BYTES: Final = 64 * 1024
_CLOSE_TIMEOUT_S: Final = 3.0


class LineError(SimulatorError):
    """A connection that could not be made, or was lost; the node tries again."""


def delivered(reason: int) -> bool:
    """Whether a PUBACK says that somebody got the message, or that it waits for one who will."""
    return reason < FIRST_FAILURE and reason != NO_MATCHING_SUBSCRIBERS


class Link:
    """A connection, made by `connect`. `on_message` gets topic, payload and whether it was retained, in the loop.

    `lost` is done once it is of no more use, with the reason.
    """

    def __init__(
        self, broker: BrokerConfig, client: paho.Client, on_message: Callable[[str, bytes, bool], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.receive_maximum = _DEFAULT_RECEIVE_MAXIMUM
        self._broker = broker
        self._client = client
        self._on_message = on_message
        self._answers: dict[tuple[str, int], asyncio.Future[int]] = {}
        self._connack: asyncio.Future[int] = self._loop.create_future()
        self._pump = Pump(client, broker.keepalive_s, self._lose)
        self._listen()

    @classmethod
    async def connect(
        cls,
        broker: BrokerConfig,
        client_id: str,
        tls: ssl.SSLContext | None,
        will: tuple[str, bytes],
        on_message: Callable[[str, bytes, bool], None],
    ) -> Self:
        """A connection that the broker has accepted, with this will (topic, payload); raises LineError."""
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, reconnect_on_failure=False)
        client.connect_timeout = broker.connect_timeout_s
        client.max_inflight_messages_set(_DEFAULT_RECEIVE_MAXIMUM)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password())
        if tls is not None:
            client.tls_set_context(tls)
        client.will_set(*will, qos=1)
        link = cls(broker, client, on_message)
        try:
            await link._open()
        except BaseException:
            link.cut()
            raise
        return link

    @property
    def in_flight(self) -> int:
        """Messages that the broker has not answered yet."""
        return len(self._answers)

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe at QoS 1, and wait until the broker has agreed; raises LineError."""
        _, mid = self._client.subscribe([(topic, 1) for topic in topics])
        reason = LOST if mid is None else await self._expect("suback", mid)
        if reason >= FIRST_FAILURE:
            raise LineError(f"the subscription to {', '.join(topics)} is not granted ({reason})")

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, stamp: Sequence[tuple[str, str]] = ()
    ) -> asyncio.Future[int]:
        """Send without waiting. The future gets the PUBACK's reason, at QoS 0 a 0 once it is written; or `LOST`."""
        properties = None
        if stamp:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
            properties.UserProperty = list(stamp)
        info = self._client.publish(topic, payload, qos=qos, properties=properties)
        return self._expect("puback", info.mid)

    def freeze(self) -> None:
        """Neither read nor write any more, and tell nobody; the socket stays open until `cut`."""
        self._pump.rest()
        self._lose("silent")

    def cut(self) -> None:
        """Close the socket without a goodbye: the broker tells the will."""
        self._pump.stop()
        self._lose("cut")

    async def close(self) -> None:
        """Say goodbye, which takes back the will, and hang up."""
        self._client.disconnect()
        await asyncio.wait([self.lost], timeout=_CLOSE_TIMEOUT_S)
        self.cut()

    async def _open(self) -> None:
        where = f"{self._broker.host}:{self._broker.port}"
        dialling = asyncio.ensure_future(asyncio.to_thread(self._dial))
        try:
            await asyncio.shield(dialling)
            self._pump.start()
            async with asyncio.timeout(self._broker.connect_timeout_s):
                reason = await self._connack
        except asyncio.CancelledError:
            # A thread cannot be cancelled; what it opens must not outlive us.
            dialling.add_done_callback(self._hang_up)
            raise
        except TimeoutError:
            raise LineError(f"{where} does not answer") from None
        except (OSError, ValueError) as exc:
            raise LineError(f"{where} cannot be reached: {exc}") from exc
        if reason != 0:
            raise LineError(f"{where} refuses the connection ({'lost' if reason == LOST else reason})")

    def _hang_up(self, dialling: asyncio.Future[None]) -> None:
        if not dialling.cancelled():
            dialling.exception()  # seen
        self._pump.stop()

    def _dial(self) -> None:
        broker = self._broker
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
        properties.ReceiveMaximum = _RECEIVE_MAXIMUM
        properties.MaximumPacketSize = _MAXIMUM_PACKET_BYTES
        if broker.session_expiry_s:
            properties.SessionExpiryInterval = broker.session_expiry_s
        clean = not broker.session_expiry_s
        self._client.connect(broker.host, broker.port, broker.keepalive_s, clean_start=clean, properties=properties)

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

    def _listen(self) -> None:
        """Take paho's callbacks; it holds its lock meanwhile, so nothing in them may use the link at once."""
        client = self._client
        client.on_connect = self._connected
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self._lose(str(reason))
        client.on_publish = lambda _c, _u, mid, reason, _p: self._answer("puback", mid, reason.value)
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._answer(
            "suback", mid, max(r.value for r in reasons)
        )
        client.on_message = lambda _c, _u, message: self._on_message(
            message.topic, bytes(message.payload), message.retain
        )

    def _connected(self, _client: object, _userdata: object, _flags: object, reason: Any, properties: object) -> None:  # noqa: ANN401 - paho's
        self.receive_maximum = getattr(properties, "ReceiveMaximum", _DEFAULT_RECEIVE_MAXIMUM)
        if not self._connack.done():
            self._connack.set_result(reason.value)
