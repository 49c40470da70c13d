"""Requests and answers of a Modbus device as protocol data units: function code and what follows. No I/O.

Modbus application protocol 1.1b3, chapters 6 and 7.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from simulators.plant.memory import Block
from simulators.plant.points import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

READS: Final = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}
MAX_REGISTERS: Final = 125
MAX_BITS: Final = 2000
_WRITE_ONE: Final = {5: Table.COIL, 6: Table.HOLDING}
_WRITE_MANY: Final = {15: Table.COIL, 16: Table.HOLDING}
_MAX_WRITTEN: Final = {15: 1968, 16: 123}
_COIL_STATES: Final = {0x0000: 0, 0xFF00: 1}
_ADDRESSES: Final = 65_536
_READ: Final = struct.Struct(">BHH")
_HEADER: Final = struct.Struct(">BHHB")


class ExceptionCode(IntEnum):
    """Why a request is refused."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_ADDRESS = 2
    ILLEGAL_VALUE = 3
    BUSY = 6
    GATEWAY_NO_RESPONSE = 11


class RefusedError(Exception):
    """A request that is answered with a Modbus exception code."""

    def __init__(self, code: ExceptionCode) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Write:
    """Registers (or bits) to be written to a block."""

    block: Block
    words: tuple[int, ...]
    answer: bytes


def parse_request(unit_id: int, pdu: bytes) -> Block | Write:
    """The block that is to be read, or the write; raises RefusedError for a request that is none."""
    function = pdu[0]
    if function in READS:
        return _read(unit_id, pdu)
    if function in _WRITE_ONE:
        return _write_one(unit_id, pdu)
    if function in _WRITE_MANY:
        return _write_many(unit_id, pdu)
    raise RefusedError(ExceptionCode.ILLEGAL_FUNCTION)


def _read(unit_id: int, pdu: bytes) -> Block:
    if len(pdu) != _READ.size:
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
    function, address, count = _READ.unpack(pdu)
    table = READS[function]
    if not 1 <= count <= (MAX_BITS if table.of_bits else MAX_REGISTERS):
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
    return _within(Block(unit_id, table, address, count))


def _write_one(unit_id: int, pdu: bytes) -> Write:
    if len(pdu) != _READ.size:
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
    function, address, word = _READ.unpack(pdu)
    block = Block(unit_id, _WRITE_ONE[function], address, 1)
    if not block.table.of_bits:
        return Write(block, (word,), pdu)
    if word not in _COIL_STATES:
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
    return Write(block, (_COIL_STATES[word],), pdu)


def _write_many(unit_id: int, pdu: bytes) -> Write:
    if len(pdu) < _HEADER.size:
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
    function, address, count, size = _HEADER.unpack_from(pdu)
    content, table = pdu[_HEADER.size :], _WRITE_MANY[function]
    if len(content) != size or size != (-(-count // 8) if table.of_bits else 2 * count):
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
    if not 1 <= count <= _MAX_WRITTEN[function]:
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
    words = _bits(content, count) if table.of_bits else struct.unpack(f">{count}H", content)
    return Write(_within(Block(unit_id, table, address, count)), words, pdu[:5])


def _within(block: Block) -> Block:
    if block.end > _ADDRESSES:
        raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
    return block


def _bits(content: bytes, count: int) -> tuple[int, ...]:
    return tuple(content[i // 8] >> (i % 8) & 1 for i in range(count))


def pack_words(table: Table, words: Sequence[int]) -> bytes:
    """Registers, or bits eight to a byte with the lowest first, as an answer carries them."""
    if not table.of_bits:
        return struct.pack(f">{len(words)}H", *words)
    packed = bytearray(-(-len(words) // 8))
    for i, bit in enumerate(words):
        packed[i // 8] |= bool(bit) << (i % 8)
    return bytes(packed)


def read_answer(function: int, content: bytes) -> bytes:
    """The answer to a read."""
    return bytes((function, len(content))) + content


def exception(function: int, code: int) -> bytes:
    """The answer that refuses a request."""
    return bytes((function & 0x7F | 0x80, code))
