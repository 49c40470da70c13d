"""The MQTT side: one paho client with a persistent session, manual acknowledgement and a counted connection.

paho's network thread runs the callbacks; they only admit, stamp and queue, so keep-alive never waits. Everything
else is called by the bridge's own thread. `_lock` guards the generation: a PUBACK is handed to paho only while it
is held and the generation is still the message's. Whatever paho has queued when a connection ends it throws
away before the next, so no PUBACK of one connection can be sent on another.
"""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.client import SturdyClient
from bridge.config import ALL_GROUPS
from bridge.errors import BridgeError
from contract.sparkplug import encode
from contract.topics import NAMESPACE, MessageType, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from bridge.config import MqttConfig
    from bridge.marks import NodeId
    from bridge.packets import Publish
    from bridge.presence import Presence
    from contract.hoststate import HostState
    from contract.sparkplug import Payload

logger = logging.getLogger(__name__)

_RECONNECT_MAX_S: Final = 5
_CLOSE_POLL_S: Final = 0.01
_SESSION_TAKEN_OVER: Final = 142
_DISCONNECT_WITH_WILL: Final = ReasonCode(PacketTypes.DISCONNECT, identifier=4)


class Arrival(NamedTuple):
    """Messages that came at once: on which connection, and when (UTC ms)."""

    generation: int
    received_at_ms: int
    messages: deque[Publish]


class MqttLink:
    """The connection to the broker.

    `presence` is what we say of ourselves (STATE); paho's thread tells it, so that it is true of the connection.
    `admit(generation, messages)` decides in paho's thread which are taken; `report` takes what came in: messages, and a
    BridgeError that ends the bridge. Both must return at once.
    """

    def __init__(
        self,
        config: MqttConfig,
        groups: Collection[str],
        former_groups: Collection[str],
        presence: Presence,
        admit: Callable[[int, list[Publish]], list[Publish]],
        report: Callable[[Arrival | BridgeError], None],
    ) -> None:
        self._config = config
        self._presence = presence
        self._presence_topic = presence.topic.encode()
        self._filters = [f"{NAMESPACE}/{group}/#" for group in groups]
        self._former_filters = [f"{NAMESPACE}/{group}/#" for group in former_groups]
        if ALL_GROUPS not in groups:
            self._filters.append(presence.topic)
        self._admit = admit
        self._report = report
        # Reentrant: were paho's thread dead, `acknowledge` would write itself, and find out of a lost connection there.
        self._lock = threading.RLock()
        self._generation = 0
        self._connected = False
        self._told_away: set[str] = set()
        self._refused = False
        self._subscribed = threading.Event()
        self._client: SturdyClient | None = None

    @property
    def generation(self) -> int:
        """Which connection this is, counted from 1."""
        return self._generation

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us."""
        return self._connected

    def start(self, receive_maximum: int) -> None:
        """Connect in the background, and again after every loss; `receive_maximum` messages may be unacknowledged."""
        self._client = client = self._new_client()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no type here
        properties.SessionExpiryInterval = self._config.session_expiry_s
        properties.ReceiveMaximum = receive_maximum
        client.connect_async(
            self._config.host, self._config.port, self._config.keepalive_s, clean_start=False, properties=properties
        )
        client.loop_start()

    def stop(self, timeout_s: float, *, soon_back: bool = False) -> None:
        """Send what is queued, say that we are offline, disconnect, and join paho's thread. The session stays.

        Who is `soon_back` leaves that word to the will, which the broker forgets if we come in time.
        """
        if (client := self._client) is None:
            return
        deadline = time.monotonic() + timeout_s
        if self._connected:
            if not soon_back:
                self._tell_state(client, self._presence.leave(_now_ms()))
            # Closing a socket that has unread data resets the connection, and the broker then loses what it had not
            # read. Its answer to a subscription, changing nothing, says that it has read all before.
            self._subscribed.clear()
            self._subscribe(client)
            self._subscribed.wait(timeout_s)
        self._client = None
        client.disconnect(_DISCONNECT_WITH_WILL if soon_back else None)
        while (sock := client.socket()) is not None:
            if time.monotonic() > deadline:
                logger.warning("MQTT: the broker takes nothing more; closing the connection")
                if isinstance(sock, socket.socket):  # a websocket, which we never ask for, is none
                    sock.shutdown(socket.SHUT_RDWR)
                break
            time.sleep(_CLOSE_POLL_S)
        client.loop_stop()
        self._end_generation()

    def acknowledge(self, generation: int, message_ids: Iterable[int]) -> None:
        """Send PUBACKs, in this order, unless the connection that brought the messages is gone."""
        with self._lock:
            if generation == self._generation and self._client is not None:
                self._client.acknowledge(message_ids)

    def command(self, node: NodeId, payload: Payload) -> None:
        """Send an NCMD, once at most (QoS 0, not retained)."""
        if self._client is not None:
            topic = str(Topic(node[0], MessageType.NCMD, node[1]))
            self._client.publish(topic, encode(payload), qos=0, retain=False)

    def _new_client(self) -> SturdyClient:
        client = SturdyClient(
            CallbackAPIVersion.VERSION2, self._config.client_id, protocol=paho.MQTTv5, manual_ack=True
        )
        client.reconnect_delay_set(1, _RECONNECT_MAX_S)
        if self._config.username is not None:
            client.username_pw_set(self._config.username, self._config.password())
        if self._config.tls is not None:
            client.tls_set_context(self._config.tls.context())
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publishes = partial(self._on_publishes, client)
        return client

    def _end_generation(self) -> None:
        with self._lock:
            self._generation += 1
            self._connected = False

    def _on_pre_connect(self, client: paho.Client, _userdata: object) -> None:
        self._end_generation()
        self._refused = False
        properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]  # paho has no type here
        properties.WillDelayInterval = self._presence.offline_after_s
        will = self._presence.will(_now_ms()).to_payload()
        client.will_set(self._presence.topic, will, qos=1, retain=True, properties=properties)

    def _on_connect(
        self,
        client: paho.Client,
        _userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._refused = reason.is_failure
        if reason.is_failure:
            self._tell_away(f"the broker refuses client id {self._config.client_id!r}: {reason}")
            return
        if self._former_filters:
            client.unsubscribe(self._former_filters)
        self._subscribe(client)
        self._tell_state(client, self._presence.birth())
        self._connected = True
        self._told_away.clear()
        session = "session resumed" if flags.session_present else "new session"
        logger.info("MQTT: connected to %s:%d, %s", self._config.host, self._config.port, session)

    def _tell_state(self, client: paho.Client, state: HostState) -> None:
        client.publish(self._presence.topic, state.to_payload(), qos=1, retain=True)

    def _subscribe(self, client: paho.Client) -> None:
        # Commands are dropped by triage; noLocal spares us our own.
        options = SubscribeOptions(qos=1, noLocal=True, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        client.subscribe([(topic_filter, options) for topic_filter in self._filters])

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._subscribed.set()
        for topic_filter, reason in zip(self._filters, reasons, strict=False):
            if reason.is_failure:
                self._report(BridgeError(f"MQTT: the broker refuses the subscription {topic_filter}: {reason}"))

    def _on_connect_fail(self, _client: paho.Client, _userdata: object) -> None:
        # paho calls this while it handles what went wrong, and does not pass it on.
        fault = sys.exception()
        why = fault.verify_message if isinstance(fault, ssl.SSLCertVerificationError) else fault
        self._tell_away(f"{self._config.host}:{self._config.port} cannot be reached: {why}")

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._end_generation()
        if self._client is None:
            return
        if flags.is_disconnect_packet_from_server and reason.value == _SESSION_TAKEN_OVER:
            self._report(BridgeError(f"MQTT: another client has taken the client id {self._config.client_id!r}"))
        if not self._refused:  # that who refuses us hangs up as well is nothing new
            self._tell_away(f"connection lost: {reason}")

    def _tell_away(self, what: str) -> None:
        if what not in self._told_away:
            logger.warning("MQTT: %s; trying again every %d s at most", what, _RECONNECT_MAX_S)
        self._told_away.add(what)

    def _on_publishes(self, client: paho.Client, publishes: list[Publish]) -> None:
        generation = self._generation
        taken = self._admit(generation, publishes)
        if not taken:
            return
        for message in taken:
            # What is retained there may be our own word of before.
            if message.topic == self._presence_topic and not message.is_retained:
                answer = self._presence.contradict(message.payload)
                if answer is not None:
                    self._tell_state(client, answer)
        self._report(Arrival(generation, _now_ms(), deque(taken)))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
