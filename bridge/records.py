"""Kafka's record batches (format 2) as bytes. Pure; Kafka's protocol guide names every field.

kafka-python makes an object, a future and a dozen small writes of each record, 20 us in all; this takes 2. Many records
of one node have headers in common, whose bytes are kept.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import lz4.frame
from crc32c import crc32c

if TYPE_CHECKING:
    from bridge.triage import Letter

# Base offset, length, leader epoch, magic; CRC; what the CRC covers: attributes, last offset, first and last time,
# producer id and epoch, first sequence number, count.
_BEFORE_CRC: Final = struct.Struct(">qiib")
_CRC: Final = struct.Struct(">I")
_AFTER_CRC: Final = struct.Struct(">hiqqqhii")
_MAGIC: Final = 2
_MAX_LENGTH_BYTES: Final = 5
_UNCOMPRESSED, _LZ4 = 0, 3
# Base offset and length themselves are not counted in a batch's length.
_NOT_COUNTED: Final = 12
BATCH_OVERHEAD_BYTES: Final = _BEFORE_CRC.size + _CRC.size + _AFTER_CRC.size
# The most that a record has beside its key, value and headers: six numbers and its attributes.
RECORD_OVERHEAD_BYTES: Final = 32


def varint(number: int) -> bytes:
    """A number as records have it: zigzag, seven bits a byte."""
    rest = number << 1 ^ number >> 63
    digits = bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - seven bits
        digits.append(rest & 0x7F | 0x80)
        rest >>= 7
    digits.append(rest)
    return bytes(digits)


_SMALL: Final = tuple(map(varint, range(8192)))


def _length(size: int) -> bytes:
    return _SMALL[size] if size < len(_SMALL) else varint(size)


def _text(text: bytes) -> bytes:
    return _length(len(text)) + text


def header(name: str, value: bytes) -> bytes:
    """One header."""
    return _text(name.encode()) + _text(value)


# Of these four, and of the topic and the epoch, many records have the same.
_FIVE: Final = _length(5)
_BATCH_NO: Final = _text(b"batch_no")
_OLDEST: Final = _text(b"oldest")
_known_header = lru_cache(maxsize=16_384)(header)


def packed_headers(letter: Letter) -> bytes:
    """A record's headers and their count: those that `contract.records.RecordHeaders.to_kafka` gives."""
    if letter.stamp is None or letter.reason is not None:
        headers = letter.headers.to_kafka()
        return _length(len(headers)) + b"".join(header(name, value) for name, value in headers)
    epoch, batch_no, oldest = letter.stamp
    batch_digits, oldest_digits = b"%d" % batch_no, b"%d" % oldest
    return b"".join(
        (
            _FIVE,
            _known_header("topic", letter.route.topic_bytes),
            _known_header("received_at", b"%d" % letter.received_at_ms),
            _known_header("epoch", b"%d" % epoch),
            _BATCH_NO,
            _SMALL[len(batch_digits)],
            batch_digits,
            _OLDEST,
            _SMALL[len(oldest_digits)],
            oldest_digits,
        )
    )


class RecordBatch:
    """Records of one partition, all of one time (UTC ms); `size_bytes` is at least what it takes uncompressed."""

    __slots__ = ("_at_ms", "_parts", "count", "size_bytes")

    def __init__(self, at_ms: int) -> None:
        self._at_ms = at_ms
        self._parts: list[bytes] = []
        self.count = 0
        self.size_bytes = BATCH_OVERHEAD_BYTES

    def append(self, key: bytes, value: bytes, headers: bytes) -> None:
        """Add a record; `headers` as `packed_headers` gives them."""
        # No attributes, and no time after the batch's.
        before = b"".join((b"\0\0", _length(self.count), _length(len(key)), key, _length(len(value))))
        size = len(before) + len(value) + len(headers)
        self._parts += (_length(size), before, value, headers)
        self.count += 1
        self.size_bytes += size + _MAX_LENGTH_BYTES

    def sealed(self, producer_id: int, producer_epoch: int, first_sequence: int) -> bytes:
        """The batch, by lz4 where that makes it smaller."""
        plain = b"".join(self._parts)
        packed = lz4.frame.compress(plain, block_linked=False)
        codec, records = (_LZ4, packed) if len(packed) < len(plain) else (_UNCOMPRESSED, plain)
        last, at_ms = self.count - 1, self._at_ms
        covered = _AFTER_CRC.pack(codec, last, at_ms, at_ms, producer_id, producer_epoch, first_sequence, self.count)
        size = BATCH_OVERHEAD_BYTES - _NOT_COUNTED + len(records)
        check = crc32c(records, crc32c(covered))
        return b"".join((_BEFORE_CRC.pack(0, size, 0, _MAGIC), _CRC.pack(check), covered, records))
