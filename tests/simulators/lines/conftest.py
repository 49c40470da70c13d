"""Plant and bus as lines, and clients that frame by hand: what a library would hide is what is looked at."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.framer import FramerRTU

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POINTS = [
    {"table": "input", "count": 100, "datatype": "uint64"},
    {"table": "holding", "address": 100, "count": 4, "datatype": "float32", "word_order": "little", "value": 231.4},
    {"table": "holding", "address": 130, "count": 4, "datatype": "uint16", "writable": True},
    {"table": "coil", "count": 20, "datatype": "bool", "writable": True},
]


class Client:
    """Of a TCP connection or a tty."""

    def __init__(self, connection: socket.socket | int, *, rtu: bool) -> None:
        self._connection, self._rtu, self._transaction = connection, rtu, 0

    def send(self, unit_id: int, pdu: bytes) -> bytes:
        """Sends, and returns the head that an answer should have."""
        self._transaction += 1
        if self._rtu:
            body = bytes([unit_id]) + pdu
            self._write(body + FramerRTU.compute_CRC(body).to_bytes(2, "big"))
            return bytes([unit_id])
        head = struct.pack(">HH", self._transaction, 0)
        self._write(head + struct.pack(">HB", len(pdu) + 1, unit_id) + pdu)
        return head

    def receive(self, wait_s: float = 0.4, most: int = 4096) -> bytes:
        """Whatever comes until nothing has come for a while; empty when the other side has closed."""
        data = b""
        deadline = time.monotonic() + wait_s
        while len(data) < most and time.monotonic() < deadline:
            try:
                piece = self._read()
            except BlockingIOError:
                time.sleep(0.002)
                continue
            except ConnectionError:
                return data
            if not piece:
                return data
            data += piece
        return data

    def ask(self, unit_id: int, pdu: bytes, wait_s: float = 5.0) -> bytes:
        """The PDU of the answer."""
        head = self.send(unit_id, pdu)
        answer = self.receive(wait_s, most=1)
        time.sleep(0.02)
        answer += self.receive(0.02)
        assert answer.startswith(head), answer
        if self._rtu:
            assert FramerRTU.compute_CRC(answer[:-2]).to_bytes(2, "big") == answer[-2:]
            return answer[1:-2]
        assert len(answer) == 6 + int.from_bytes(answer[4:6], "big")
        assert answer[6] == unit_id
        return answer[7:]

    def _write(self, data: bytes) -> None:
        if isinstance(self._connection, int):
            os.write(self._connection, data)
        else:
            self._connection.sendall(data)

    def _read(self) -> bytes:
        if isinstance(self._connection, int):
            return os.read(self._connection, 4096)
        return self._connection.recv(4096)


@contextmanager
def _client(line: Any, *, rtu: bool = False) -> Iterator[Client]:
    if "device" in line.addresses:
        descriptor = os.open(line.addresses["device"], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            yield Client(descriptor, rtu=True)
        finally:
            os.close(descriptor)
        return
    with socket.create_connection((line.addresses["host"], line.addresses["port"]), timeout=5) as connection:
        connection.settimeout(0)
        yield Client(connection, rtu=rtu)


@pytest.fixture
def client_of() -> Callable[..., Any]:
    """A client of a line that was started, as a context manager."""
    return _client


@pytest.fixture
def client_of_tty() -> Callable[[int], Client]:
    """A client at the other end of a tty that is open."""
    return lambda descriptor: Client(descriptor, rtu=True)


@pytest.fixture
def bus(start_simulator: Callable[..., Any]) -> Callable[..., Any]:
    """Starts a bus of units 1 and 2; `faults` act before it is handed over."""

    def start(**keys: Any) -> Any:
        line = start_simulator(**{"type": "bus", "name": "bus", "unit_ids": "1-2", "points": POINTS, "seed": 3} | keys)
        line.wait_for("faults", lambda it: len(it.incidents()) == len(keys.get("faults", ())))
        return line

    return start


@pytest.fixture
def control() -> Callable[[Any, Any], Any]:
    """What the control port of a line answers."""

    def ask(line: Any, question: Any) -> Any:
        with socket.create_connection(
            (line.addresses["host"], line.addresses["control_port"]), timeout=5
        ) as connection:
            connection.sendall(json.dumps(question).encode() + b"\n")
            return json.loads(connection.makefile().readline())

    return ask
