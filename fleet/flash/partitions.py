"""The partition table of an image, MBR or GPT: read with every bound checked, for an image may come from anywhere."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from fleet.errors import FleetError

SECTOR_BYTES: Final = 512
# The MBR, and the sectors in which a GPT and its usual 128 entries stand.
TABLE_BYTES: Final = 34 * SECTOR_BYTES
_SIGNATURE: Final = b"\x55\xaa"
_ENTRIES_OFFSET: Final = 446
_ENTRY: Final = struct.Struct("<B3sB3sII")
_PROTECTIVE: Final = 0xEE
_FAT_TYPES: Final = frozenset({0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E, 0xEF})
_GPT_HEADER: Final = struct.Struct("<8s4sIIIQQQQ16sQIII")
_GPT_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_GPT_ENTRIES: Final = 128
# EFI system, and Microsoft basic data: FAT lives in both.
_GPT_FAT_TYPES: Final = frozenset(
    {
        bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b"),
        bytes.fromhex("a2a0d0ebe5b9334487c068b6b72699c7"),
    }
)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition: where its bytes are in the image; `end` is the first byte behind it."""

    number: int
    start: int
    end: int
    may_be_fat: bool

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """The partitions of an image, in the order of their places."""

    partitions: tuple[Partition, ...]

    @property
    def end(self) -> int:
        """The first byte behind the last partition: an image is as long as this at least."""
        return self.partitions[-1].end

    @property
    def boot(self) -> Partition:
        """The partition that a Raspberry Pi boots from: the one with FAT whose number is lowest; raises FleetError."""
        fat = [partition for partition in self.partitions if partition.may_be_fat]
        if not fat:
            raise FleetError("the image has no FAT partition: a Raspberry Pi boots from one")
        return min(fat, key=lambda partition: partition.number)


def read_table(head: bytes) -> PartitionTable:
    """The table in an image's first TABLE_BYTES; raises FleetError for none, or for one that cannot be."""
    if len(head) < TABLE_BYTES or head[SECTOR_BYTES - 2 : SECTOR_BYTES] != _SIGNATURE:
        raise FleetError("the image has no partition table: is it an image of a whole card?")
    slots = [_ENTRY.unpack_from(head, _ENTRIES_OFFSET + slot * _ENTRY.size) for slot in range(4)]
    if any(kind == _PROTECTIVE for _, _, kind, _, _, _ in slots):
        partitions, first_free = _read_gpt(head), TABLE_BYTES
    else:
        partitions, first_free = (
            [
                _partition(slot + 1, first, first + sectors, may_be_fat=kind in _FAT_TYPES)
                for slot, (_, _, kind, _, first, sectors) in enumerate(slots)
                if kind and sectors
            ],
            SECTOR_BYTES,
        )
    if not partitions:
        raise FleetError("the image's partition table is empty")
    return _checked(sorted(partitions, key=lambda partition: partition.start), first_free)


def _read_gpt(head: bytes) -> list[Partition]:
    fields = _GPT_HEADER.unpack_from(head, SECTOR_BYTES)
    magic, _, header_bytes, header_crc, *_, entries_at, entries, entry_bytes, entries_crc = fields
    if magic != b"EFI PART" or header_bytes != _GPT_HEADER.size:
        raise FleetError("the image's GPT has no header")
    header = bytearray(head[SECTOR_BYTES : SECTOR_BYTES + _GPT_HEADER.size])
    header[16:20] = bytes(4)  # the checksum is of the header with none in it
    # Anything else is allowed by the standard and made by nobody.
    if (entries_at, entries, entry_bytes) != (2, _GPT_ENTRIES, _GPT_ENTRY.size):
        raise FleetError(
            f"the image's GPT has {entries} entries of {entry_bytes} bytes at {entries_at}, not 128 of 128 at 2"
        )
    table = head[2 * SECTOR_BYTES : TABLE_BYTES]
    if zlib.crc32(header) != header_crc or zlib.crc32(table) != entries_crc:
        raise FleetError("the image's GPT is damaged: its checksum is wrong")
    return [
        _partition(number, first, last + 1, may_be_fat=kind in _GPT_FAT_TYPES)
        for number, (kind, _, first, last, _, _) in enumerate(_GPT_ENTRY.iter_unpack(table), 1)
        if any(kind)
    ]


def _partition(number: int, first: int, behind: int, *, may_be_fat: bool) -> Partition:
    return Partition(number, first * SECTOR_BYTES, behind * SECTOR_BYTES, may_be_fat)


def _checked(partitions: list[Partition], first_free: int) -> PartitionTable:
    for partition in partitions:
        if partition.start < first_free:
            raise FleetError(f"partition {partition.number} of the image lies over the partition table")
        if partition.size_bytes <= 0:
            raise FleetError(f"partition {partition.number} of the image ends before it begins")
    for before, after in pairwise(partitions):
        if after.start < before.end:
            raise FleetError(f"partitions {before.number} and {after.number} of the image overlap")
    return PartitionTable(tuple(partitions))
