"""How requests and answers travel: behind a header on Modbus TCP, before a checksum on an RTU line. No I/O.

Modbus messaging on TCP/IP 1.0b, chapter 4; Modbus over serial line 1.02, chapter 2.5.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, Protocol

MAX_TCP_FRAME: Final = 260
MAX_RTU_FRAME: Final = 256
_MBAP: Final = struct.Struct(">HHHB")
_MIN_TCP_FRAME: Final = 8
_MIN_RTU_FRAME: Final = 4
# Of RTU requests, by function code: those of one length, and those that tell theirs in a byte.
_SIZES: Final = dict.fromkeys(range(1, 7), 8)
_COUNTED: Final = {15: (6, 9), 16: (6, 9)}  # where the byte count stands, and what there is besides what it counts
# A request whose end has not come after so long is none: the standard's 3.5 characters, as an operating system sees it.
_SILENCE_S: Final = 0.05


class NoModbusError(Exception):
    """What came is no Modbus TCP; the message shows its start."""


class Frame(NamedTuple):
    """A request or an answer; `transaction` is Modbus TCP's, 0 elsewhere."""

    unit_id: int
    pdu: bytes
    transaction: int = 0


class Framing(Protocol):
    """One direction of one connection."""

    def take(self, data: bytes, now_s: float) -> list[Frame]:
        """The requests that are whole now; raises NoModbusError where there is no way to go on."""
        ...

    def build(self, frame: Frame) -> bytes:
        """An answer as it goes out."""
        ...


class TcpFraming(Framing):
    """Modbus TCP."""

    def __init__(self) -> None:
        self._buffer = b""

    def take(self, data: bytes, now_s: float) -> list[Frame]:  # noqa: ARG002 - here time says nothing
        """The requests that are whole now."""
        self._buffer = buffer = self._buffer + data if self._buffer else data
        frames, start = [], 0
        while len(buffer) - start >= _MIN_TCP_FRAME:
            transaction, protocol, rest, unit_id = _MBAP.unpack_from(buffer, start)
            end = start + 6 + rest
            if protocol or not _MIN_TCP_FRAME <= end - start <= MAX_TCP_FRAME:
                raise NoModbusError(f"{buffer[start : start + 8]!r} is no Modbus TCP")
            if end > len(buffer):
                break
            frames.append(Frame(unit_id, buffer[start + 7 : end], transaction))
            start = end
        self._buffer = buffer[start:]
        return frames

    def build(self, frame: Frame) -> bytes:
        """An answer as it goes out."""
        return _MBAP.pack(frame.transaction, 0, len(frame.pdu) + 1, frame.unit_id) + frame.pdu


class RtuFraming(Framing):
    """Modbus RTU, on a serial line or over TCP: what is no request is skipped byte by byte, or by a silence."""

    def __init__(self, silence_s: float = _SILENCE_S) -> None:
        self._buffer = b""
        self._silence_s = silence_s
        self._last_s = 0.0

    def take(self, data: bytes, now_s: float) -> list[Frame]:
        """The requests that are whole now; `now_s` is any clock that goes forward."""
        if now_s - self._last_s > self._silence_s:
            self._buffer = b""
        self._last_s = now_s
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def build(self, frame: Frame) -> bytes:
        """An answer as it goes out."""
        body = bytes((frame.unit_id,)) + frame.pdu
        return body + crc16(body).to_bytes(2, "little")

    def _next(self) -> Frame | None:
        while len(self._buffer) >= _MIN_RTU_FRAME:
            size = _size(self._buffer)
            if size is not None and size > len(self._buffer):
                return None
            found = self._buffer[: size or len(self._buffer)]
            if crc16(found) == 0:
                self._buffer = self._buffer[len(found) :]
                return Frame(found[0], found[1:-2])
            if size is None and len(found) < MAX_RTU_FRAME:
                return None
            self._buffer = self._buffer[1:]
        return None


def _size(buffer: bytes) -> int | None:
    """The length of the request that starts here; None for a function whose requests' length is not known."""
    function = buffer[1]
    if function in _COUNTED:
        at, besides = _COUNTED[function]
        return besides + buffer[at] if len(buffer) > at else MAX_RTU_FRAME
    return _SIZES.get(function)


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE: Final = _table()


def crc16(data: bytes) -> int:
    """The checksum of RTU, low byte first on the line; 0 for data that ends with its own checksum."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc
