"""paho's client with our reader, fed bytes as a socket would give them."""

from __future__ import annotations

import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from bridge.client import SturdyClient
from bridge.packets import PUBLISH

PINGRESP = bytes([0xD0, 0])


class Wire:
    """A client whose socket gives `pieces`, one for each time it is asked."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.client = SturdyClient(CallbackAPIVersion.VERSION2, "c", protocol=MQTTv5)
        vars(self.client).update(_sock_recv=self._receive, _sock=self)
        self.taken: list[bytes] = []
        self.client.on_publishes = lambda publishes: self.taken.extend(publish.payload for publish in publishes)

    def _receive(self, _most: int) -> bytes:
        if not self._pieces:
            raise BlockingIOError
        return self._pieces.pop(0)

    def read(self) -> MQTTErrorCode:
        while (result := self.client._packet_read()) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass
        return result

    def close(self) -> None:
        """paho's, of a socket."""

    def fileno(self) -> int:
        return -1


def publish(payload: bytes) -> bytes:
    body = b"\0\1t\0" + payload
    rest, length = len(body), bytearray()
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([PUBLISH, *length, rest]) + body


@given(st.lists(st.binary(max_size=300) | st.none(), max_size=12), st.data())
def test_what_comes_is_handed_on_once_and_in_order_however_it_is_cut(
    packets: list[bytes | None], data: st.DataObject
) -> None:
    sent = b"".join(PINGRESP if payload is None else publish(payload) for payload in packets)
    cuts = sorted({0, len(sent), *data.draw(st.lists(st.integers(0, len(sent)), max_size=8))})
    wire = Wire([sent[begin:end] for begin, end in pairwise(cuts)])
    assert wire.read() == MQTTErrorCode.MQTT_ERR_AGAIN
    assert wire.taken == [payload for payload in packets if payload is not None]
    assert not wire.client._unread


def test_what_is_no_packet_ends_the_connection() -> None:
    wire = Wire([publish(b"1") + bytes([PUBLISH, 5]), b"\xff" * 5])
    assert wire.read() == MQTTErrorCode.MQTT_ERR_PROTOCOL
    assert wire.taken == [b"1"]


def test_a_large_packet_in_many_pieces_takes_no_quadratic_time() -> None:
    def seconds(size: int) -> float:
        sent = publish(bytes(size))
        wire = Wire([sent[at : at + 1000] for at in range(0, len(sent), 1000)])
        begin = time.process_time()
        wire.read()
        assert wire.taken == [bytes(size)]
        return time.process_time() - begin

    assert min(seconds(20_000_000) for _ in range(3)) < 40 * min(seconds(2_000_000) for _ in range(3))
