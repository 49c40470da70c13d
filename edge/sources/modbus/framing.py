"""Modbus requests, and the answers that belong to them, as bytes on a wire. No I/O.

TCP puts a header with a transaction id before each message (Modbus messaging on TCP/IP 1.0b, 3.1). RTU puts the unit
before it and a CRC behind it, and nothing that would tell two answers of the same shape apart (Modbus over serial line
1.02, 2.5). Both framings take bytes as they come and give out the answer to the request under way, or nothing: whatever
else arrives is passed over and counted. An exception is an answer too.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

FUNCTIONS: Final = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_BITS: Final = frozenset({1, 2})
_EXCEPTION: Final = 0x80
_HEADER: Final = struct.Struct(">HHHB")
_TCP_EXTRA: Final = 6  # bytes of a message that its length field does not count
_LARGEST_TCP: Final = 254  # what that field may say: unit and 253 bytes
_SMALLEST_TCP: Final = 2
_RTU_EXTRA: Final = 3  # unit before a message, CRC behind it
_COIL_ON: Final = b"\xff\x00"


class NotModbus(ValueError):  # noqa: N818 - says what the bytes are, not that we erred
    """Bytes in which no frame can be found: where the next one begins is lost."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a unit, and how its answer begins and how long it is (function code to data, no framing)."""

    unit_id: int
    pdu: bytes
    head: bytes
    answer_size: int

    @property
    def kind(self) -> tuple[int, int]:
        """Unit and function: all that an RTU exception names."""
        return self.unit_id, self.pdu[0]

    @property
    def refusal(self) -> int:
        """The function code of an exception answer."""
        return self.pdu[0] | _EXCEPTION

    def is_echoed_by(self, frame: bytes) -> bool:
        """Whether an RTU frame is what was asked, sent back by an adapter that hears itself; never so of a write."""
        return frame[1:-2] == self.pdu and self.head != self.pdu

    def fits(self, pdu: bytes) -> bool:
        """Whether this can be its answer, as far as one can see."""
        if len(pdu) == self.answer_size and pdu.startswith(self.head):
            return True
        return len(pdu) == 2 and pdu[0] == self.refusal  # noqa: PLR2004 - function and exception code


def read_request(unit_id: int, table: str, address: int, count: int) -> Request:
    """Reads `count` registers or bits from an address on; the data of its answer begin at the third byte."""
    function = FUNCTIONS[table]
    size = (count + 7) // 8 if function in _BITS else 2 * count
    pdu = struct.pack(">BHH", function, address, count)
    return Request(unit_id, pdu, bytes([function, size]), 2 + size)


def write_registers_request(unit_id: int, address: int, registers: Sequence[int], *, multiple: bool) -> Request:
    """Sets holding registers: a single one by function 6 unless `multiple`, else by function 16."""
    if len(registers) == 1 and not multiple:
        return _echoed(unit_id, struct.pack(">BHH", 6, address, registers[0]))
    size = 2 * len(registers)
    pdu = struct.pack(f">BHHB{len(registers)}H", 16, address, len(registers), size, *registers)
    return Request(unit_id, pdu, pdu[:5], 5)


def write_coil_request(unit_id: int, address: int, *, value: bool, multiple: bool) -> Request:
    """Sets one coil, by function 5 unless `multiple`, else by function 15."""
    if not multiple:
        return _echoed(unit_id, struct.pack(">BH2s", 5, address, _COIL_ON if value else b"\0\0"))
    pdu = struct.pack(">BHHBB", 15, address, 1, 1, value)
    return Request(unit_id, pdu, pdu[:5], 5)


def _echoed(unit_id: int, pdu: bytes) -> Request:
    return Request(unit_id, pdu, pdu, len(pdu))


class Framing(Protocol):
    """How messages travel on one connection; one request is under way at a time."""

    skipped: int
    """Frames, or runs of bytes that are none, which were not the answer."""

    def frame(self, request: Request) -> bytes:
        """The bytes that ask; from now on the answer to this request alone is looked for."""
        ...

    def feed(self, data: bytes) -> bytes | None:
        """Takes in bytes; the answer (function code to data) once it is whole; raises NotModbus."""
        ...

    def give_up(self) -> None:
        """The request under way is given up: its answer is not looked for any more."""
        ...

    def restart(self) -> None:
        """A new connection: what came in part on the last one is forgotten."""
        ...


class TcpFraming:
    """Modbus TCP: an answer is ours by transaction id, unit, function, byte count and length, all of them."""

    def __init__(self) -> None:
        self.skipped = 0
        self._buffer = b""
        self._request: Request | None = None
        # From anywhere: a gateway may still hold answers for the agent that was here before.
        self._transaction = random.randrange(0x10000)  # noqa: S311 - keeps no secret

    def frame(self, request: Request) -> bytes:
        """See Framing."""
        self._request = request
        self._transaction = self._transaction + 1 & 0xFFFF
        pdu = request.pdu
        return _HEADER.pack(self._transaction, 0, len(pdu) + 1, request.unit_id) + pdu

    def feed(self, data: bytes) -> bytes | None:
        """See Framing."""
        buffer = self._buffer + data if self._buffer else data
        answer = None
        while len(buffer) >= _HEADER.size:
            transaction, protocol, length, unit_id = _HEADER.unpack_from(buffer)
            if protocol or not _SMALLEST_TCP <= length <= _LARGEST_TCP:
                self._buffer = b""
                raise NotModbus(f"{buffer[:12].hex(' ')} is no Modbus TCP")
            end = _TCP_EXTRA + length
            if len(buffer) < end:
                break
            pdu, buffer = buffer[_HEADER.size : end], buffer[end:]
            request = self._request
            if request and transaction == self._transaction and unit_id == request.unit_id and request.fits(pdu):
                answer, self._request = pdu, None
            else:
                self.skipped += 1
        self._buffer = buffer
        return answer

    def give_up(self) -> None:
        """See Framing."""
        self._request = None

    def restart(self) -> None:
        """See Framing."""
        self._buffer = b""
        self._request = None


class RtuFraming:
    """Modbus RTU: an answer is ours by unit, function, byte count and CRC; noise before and behind it is passed over.

    The answer to a request that was given up may still come, and looks like one to a later request to the same unit by
    the same function: while the framing `owes` it, that must not be asked.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._buffer = b""
        self._request: Request | None = None
        self._owed: dict[tuple[int, int], Request] = {}  # by unit and function

    def owes(self, request: Request) -> bool:
        """Whether an answer that nobody waits for may still come, and be taken for that to this request."""
        return request.kind in self._owed

    def frame(self, request: Request) -> bytes:
        """See Framing."""
        self._pass_over()
        self._request = request
        self._owed.pop(request.kind, None)
        body = bytes([request.unit_id]) + request.pdu
        return body + crc16(body).to_bytes(2, "little")

    def feed(self, data: bytes) -> bytes | None:
        """See Framing."""
        buffer = self._buffer + data
        if self._owed:
            buffer = self._without_late(buffer)
        request = self._request
        found = None if request is None else _find(buffer, request)
        if found is None:
            self._buffer = buffer[-self._longest() :]
            return None
        start, end = found
        self.skipped += bool(start)
        self._buffer = buffer[end:][-1:]
        self._request = None
        return buffer[start + 1 : end - 2]

    def _without_late(self, buffer: bytes) -> bytes:
        for kind, late in [*self._owed.items()]:
            if (found := _find(buffer, late)) is not None:
                buffer = buffer[: found[0]] + buffer[found[1] :]
                del self._owed[kind]
                self.skipped += 1
        return buffer

    def _longest(self) -> int:
        """Bytes worth keeping: what begins before them would be whole by now."""
        expected = [*self._owed.values()] + ([] if self._request is None else [self._request])
        return max((request.answer_size + _RTU_EXTRA - 1 for request in expected), default=1)

    def give_up(self) -> None:
        """See Framing."""
        if self._request is not None:
            self._owed[self._request.kind] = self._request
        self._request = None

    def restart(self) -> None:
        """See Framing."""
        self.give_up()
        self._pass_over()

    def _pass_over(self) -> None:
        self.skipped += bool(self._buffer)
        self._buffer = b""


def _find(buffer: bytes, request: Request) -> tuple[int, int] | None:
    """Where the first whole answer to a request stands in RTU bytes."""
    unit = bytes([request.unit_id])
    kinds = ((unit + request.head, request.answer_size + _RTU_EXTRA), (unit + bytes([request.refusal]), 2 + _RTU_EXTRA))
    found = []
    for head, size in kinds:
        start = buffer.find(head)
        while start >= 0 and start + size <= len(buffer):
            frame = buffer[start : start + size]
            if crc16(frame) == 0 and not request.is_echoed_by(frame):
                found.append((start, start + size))
                break
            start = buffer.find(head, start + 1)
    return min(found, default=None)


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc16(data: bytes) -> int:
    """The CRC of RTU, sent low byte first; 0 for bytes that end in their own CRC."""
    crc, table = 0xFFFF, _CRC_TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc
