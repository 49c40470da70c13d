"""Plain metrics - a number, of good quality, without properties - of many payloads, read off the wire at once.

Protobuf's message objects cost several times what storing a reading does. `stream.ingest.layout` finds where the
metrics lie, and numpy reads their fields side by side. What is not plain, or not written as almost every encoder writes
it (fields in the order of their numbers, each once), is only told to be so: `contract.sparkplug` reads everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from contract.datatypes import INTEGERS, DataType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream.ingest.layout import Layout

    Bools: TypeAlias = NDArray[np.bool_]
    Ints: TypeAlias = NDArray[np.int64]
    Words: TypeAlias = NDArray[np.uint64]
    Floats: TypeAlias = NDArray[np.float64]

NOT_PLAIN: Final = -1

# Protobuf's tags: field number << 3 | wire type.
_ALIAS: Final = 0x10
_TIMESTAMP: Final = 0x18
_DATATYPE: Final = 0x20
_IS_HISTORICAL: Final = 0x28
_INT: Final = 0x50
_LONG: Final = 0x58
_FLOAT: Final = 0x65
_DOUBLE: Final = 0x69
_BOOLEAN: Final = 0x70

# Fields are read eight bytes at a time, one behind the other, before it is asked whether they are the metric's own.
_PADDING: Final = bytes(64)

# Which datatype is carried in which field. [datatype, tag]
_CARRIED: Final = np.zeros((256, 256), bool)
_CARRIED[DataType.FLOAT, _FLOAT] = _CARRIED[DataType.DOUBLE, _DOUBLE] = _CARRIED[DataType.BOOLEAN, _BOOLEAN] = True
_CARRIED[list(INTEGERS), _INT] = _CARRIED[list(INTEGERS), _LONG] = True
# By datatype: a boolean is a number of one bit, and no number that is read here needs more than 56.
_BITS: Final = np.ones(256, np.int64)
_BITS[list(INTEGERS)] = [min(width.bits, 62) for width in INTEGERS.values()]
_IS_SIGNED: Final = np.zeros(256, bool)
_IS_SIGNED[list(INTEGERS)] = [width.signed for width in INTEGERS.values()]
_UINT32: Final = (1 << 32) - 1

# Of eight bytes at once: what says that another follows, and how the seven bits of each are brought together.
_HIGH_BITS: Final = np.uint64(0x8080808080808080)
_ONE: Final = np.uint64(1)
_PACKING: Final = (
    (np.uint64(0x007F007F007F007F), np.uint64(1)),
    (np.uint64(0x00003FFF00003FFF), np.uint64(2)),
    (np.uint64(0x000000000FFFFFFF), np.uint64(4)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """The fields of m metrics; where `is_plain` is False the others mean nothing.

    `datatype` uint8, `sampled_at_ms` int64, `is_historical` bool, `value` float64, `is_plain` bool, each [m].
    """

    datatype: NDArray[np.uint8]
    sampled_at_ms: Ints
    is_historical: Bools
    value: Floats
    is_plain: Bools


class Reader:
    """Reads at many places of payloads that stand one behind the other; each method takes and gives arrays [m]."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        padded = data + _PADDING
        size = len(padded) - 8
        self.bytes = np.frombuffer(padded, np.uint8)
        # The same bytes as words that begin at every byte: an index is an offset.
        self.words: Words = np.ndarray((size,), "<u8", padded, strides=(1,))
        self._floats: NDArray[np.float32] = np.ndarray((size,), "<f4", padded, strides=(1,))
        self._doubles: Floats = np.ndarray((size,), "<f8", padded, strides=(1,))
        self._nowhere = len(data) + 1  # of the padding: where no metric ends

    def fields(self, layout: Layout) -> Fields:
        """The fields of metrics."""
        return self._fields(layout.named, layout.end, layout.name_no != NOT_PLAIN, layout.times_ms[layout.payload_no])

    def _fields(self, at: Ints, end: Ints, is_plain: Bools, payload_times_ms: Ints) -> Fields:
        """Those behind the metrics' names."""
        at = np.where(is_plain, at, self._nowhere)
        _, _, at = self._optional(_ALIAS, at)
        has_time, times_ms, at = self._optional(_TIMESTAMP, at)
        is_plain &= self.bytes[at] == _DATATYPE
        datatype = self.bytes[at + 1]
        has_history, historical, at = self._optional(_IS_HISTORICAL, at + 2)
        is_plain &= historical <= 1
        is_plain &= _CARRIED[datatype, self.bytes[at]]
        value, is_value, at = self._value(datatype, np.where(is_plain, at, self._nowhere))
        is_plain &= is_value & (at == end)
        return Fields(
            datatype,
            np.where(has_time, times_ms, payload_times_ms),
            has_history & (historical == 1),
            value,
            is_plain,
        )

    def _optional(self, tag: int, at: Ints) -> tuple[Bools, Ints, Ints]:
        """Where there is a varint field of this tag, its number (0 where there is none), and what comes behind it."""
        is_there = self.bytes[at] == tag
        numbers = np.zeros(len(at), np.int64)
        places = np.flatnonzero(is_there)
        if len(places):
            at = at.copy()
            numbers[places], at[places] = self.varint(at[places] + 1)
        return is_there, numbers, at

    def varint(self, at: Ints) -> tuple[Ints, Ints]:
        """Numbers and where they end: nowhere where one is longer than eight bytes."""
        word = self.words[at]
        stops = ~word & _HIGH_BITS
        stop = stops & (~stops + _ONE)  # the lowest bit that is set: that of the last byte
        word &= stop | (stop - _ONE)
        word &= ~_HIGH_BITS
        for keep, shift in _PACKING:
            word = word & keep | (word & ~keep) >> shift
        width = np.frexp(stop.astype(np.float64))[1] >> 3
        return word.astype(np.int64), np.where(width > 0, at + width, self._nowhere)

    def _value(self, datatype: NDArray[np.uint8], at: Ints) -> tuple[Floats, Bools, Ints]:
        """Values, which of them are good, and where they end."""
        tag, at = self.bytes[at], at + 1
        value, is_good, end = np.zeros(len(at)), np.ones(len(at), bool), at.copy()
        for of_tag, numbers in ((_FLOAT, self._floats), (_DOUBLE, self._doubles)):
            places = np.flatnonzero(tag == of_tag)
            value[places] = numbers[at[places]]
            end[places] += numbers.itemsize
        places = np.flatnonzero((tag != _FLOAT) & (tag != _DOUBLE))
        if len(places):
            wire, end[places] = self.varint(at[places])
            wire[tag[places] == _INT] &= _UINT32  # as protobuf reads a number that is too long for its field
            value[places], is_good[places] = _unwrapped(wire, datatype[places])
        return value, is_good & np.isfinite(value), end


def _unwrapped(wire: Ints, datatype: NDArray[np.uint8]) -> tuple[Floats, Bools]:
    """What unsigned numbers stand for, as `contract.datatypes.unwrap` has it, and whether they stand for anything."""
    bits, is_signed = _BITS[datatype], _IS_SIGNED[datatype]
    high = (1 << (bits - is_signed)) - 1
    wraps_to = np.where(wire >> (bits - 1) == 1, bits, np.where(wire >> 31 == 1, np.maximum(bits, 32), 0))
    number = np.where(is_signed & (wraps_to > 0), wire - (1 << wraps_to), wire)
    is_good = (number <= high) & (number >= np.where(is_signed, -high - 1, 0))
    return np.where(datatype == DataType.DATETIME, number / 1000, number), is_good
