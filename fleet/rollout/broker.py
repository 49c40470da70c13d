"""Retained messages at the broker: each is confirmed by it, or an error says which was not and why."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from fleet.errors import FleetError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from paho.mqtt.reasoncodes import ReasonCode

_KEEPALIVE_S: Final = 30
_FIRST_FAILURE: Final = 0x80
# Chunks of 64 kB: 1.3 MB on their way at most.
_IN_FLIGHT: Final = 20


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is, and who we are to it; without a context plain TCP, as to a broker of tests on loopback."""

    host: str
    port: int
    client_id: str
    tls: ssl.SSLContext | None
    timeout_s: float = 15.0

    def __str__(self) -> str:
        return f"broker {self.host}:{self.port}"


def publish(address: Address, messages: Iterable[tuple[str, bytes]]) -> int:
    """Has the broker retain each payload at its topic, an empty one nothing; how many. Raises FleetError."""
    count = 0
    with _connected(address) as line:
        for topic, payload in messages:
            line.send(topic, payload)
            count += 1
        line.drain()
    return count


@contextmanager
def _connected(address: Address) -> Iterator[_Line]:
    line = _Line(address)
    try:
        line.open()
        yield line
    finally:
        line.close()


class _Line:
    """A connection's messages on their way, and what the broker said to those before."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._changed = threading.Condition()
        self._waiting: dict[int, str] = {}
        # An answer may come before `publish` has told the number.
        self._early: dict[int, ReasonCode] = {}
        self._fault: str | None = None
        self._connected = False
        # MQTT 5: a broker that refuses a message says so in no version before.
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, address.client_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        if address.tls is not None:
            self._client.tls_set_context(address.tls)
        self._client.on_connect = lambda _c, _u, _f, reason, _p: self._on_connect(reason)
        self._client.on_disconnect = lambda _c, _u, _f, reason, _p: self._fail(f"the connection was lost: {reason}")
        self._client.on_publish = lambda _c, _u, number, reason, _p: self._on_answer(number, reason)

    def open(self) -> None:
        """Connects."""
        try:
            self._client.connect_timeout = self._address.timeout_s
            self._client.connect(self._address.host, self._address.port, _KEEPALIVE_S)
        except (OSError, ValueError) as exc:
            raise FleetError(f"{self._address} cannot be reached: {exc}") from exc
        self._client.loop_start()
        self._wait(lambda: self._connected)

    def send(self, topic: str, payload: bytes) -> None:
        """Sends when there is room; raises FleetError for one before that was refused."""
        self._wait_for_fewer_than(_IN_FLIGHT)
        info = self._client.publish(topic, payload, qos=1, retain=True)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            raise FleetError(f"{self._address}: {topic}: {paho.error_string(info.rc)}")
        with self._changed:
            self._waiting[info.mid] = topic
            if (reason := self._early.pop(info.mid, None)) is not None:
                self._settle(info.mid, reason)

    def drain(self) -> None:
        """Waits until the broker has answered to all; on a slow line that takes a time for each."""
        while left := len(self._waiting):
            self._wait_for_fewer_than(left)
        # The last answer may have been a refusal.
        self._wait(lambda: True)

    def close(self) -> None:
        """Hangs up."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()  # noqa: SLF001  # paho leaves that to the garbage collection

    def _wait_for_fewer_than(self, count: int) -> None:
        self._wait(lambda: len(self._waiting) < count)

    def _wait(self, until: Callable[[], bool]) -> None:
        with self._changed:
            answered = self._changed.wait_for(lambda: self._fault is not None or until(), self._address.timeout_s)
            if self._fault is not None:
                raise FleetError(f"{self._address}: {self._fault}")
            if not answered:
                raise FleetError(f"{self._address} does not answer")

    def _on_connect(self, reason: ReasonCode) -> None:
        if reason.is_failure:
            self._fail(f"it refuses the connection: {reason}")
        with self._changed:
            self._connected = True
            self._changed.notify_all()

    def _on_answer(self, number: int, reason: ReasonCode) -> None:
        with self._changed:
            if number in self._waiting:
                self._settle(number, reason)
            else:
                self._early[number] = reason

    def _settle(self, number: int, reason: ReasonCode) -> None:
        topic = self._waiting.pop(number)
        if reason.value >= _FIRST_FAILURE:
            self._fail(f"{topic} is refused: {reason} ({reason.value})")
        self._changed.notify_all()

    def _fail(self, why: str) -> None:
        with self._changed:
            self._fault = self._fault or why
            self._changed.notify_all()
