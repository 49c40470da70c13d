"""A FAT16 or FAT32 file system's own figures, read and checked before anybody else's program touches it.

The whole allocation table is looked at: where no two entries lead to one cluster and nothing leads round in a circle,
every chain in it ends.
"""

from __future__ import annotations

import array
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BOOT_BYTES: Final = 512
_SIGNATURE: Final = b"\x55\xaa"
# Bytes a sector, sectors a cluster, reserved sectors, tables, root entries, sectors, media, sectors a table; and longer
# forms of the two of them that had become too short.
_FIGURES: Final = struct.Struct("<11xHBHBHHBH8xII")
_ROOT_CLUSTER: Final = struct.Struct("<44xI")
_MAX_SECTOR_BYTES: Final = 4096
_MAX_CLUSTER_BYTES: Final = 64 << 10
_DIRECTORY_ENTRY_BYTES: Final = 32
# From so many clusters on it is no longer FAT12, or FAT16: nothing but the number tells.
_FAT16_FROM: Final = 4085
_FAT32_FROM: Final = 65525
_FIRST: Final = 2
# Of 8 GiB in the usual clusters; boot partitions have half a gigabyte.
_MAX_CLUSTERS: Final = 1 << 21
# What so many need, and what a formatter leaves behind it so that the next thing begins at a round number.
_MAX_TABLE_BYTES: Final = 4 * (_FIRST + _MAX_CLUSTERS) + (64 << 10)


@dataclass(frozen=True, slots=True)
class FatVolume:
    """A file system that was found in order."""

    is_fat32: bool
    cluster_bytes: int
    free_clusters: int

    @property
    def free_bytes(self) -> int:
        """Room for files."""
        return self.free_clusters * self.cluster_bytes


@dataclass(frozen=True, slots=True)
class _Geometry:
    sector_bytes: int
    cluster_bytes: int
    table_at: int
    table_bytes: int
    tables: int
    clusters: int
    root_cluster: int

    @property
    def is_fat32(self) -> bool:
        return self.clusters >= _FAT32_FROM

    @property
    def behind(self) -> int:
        """One more than the last cluster."""
        return _FIRST + self.clusters


def check(read: Callable[[int, int], bytes], size_bytes: int) -> FatVolume:
    """What a file system in `size_bytes` is; `read(offset, length)` gives its bytes. Raises FleetError."""
    geometry = _geometry(read(0, _BOOT_BYTES), size_bytes)
    tables = [
        read(geometry.table_at + number * geometry.table_bytes, geometry.table_bytes)
        for number in range(geometry.tables)
    ]
    if len(set(tables)) > 1:
        raise _damaged("its two allocation tables differ")
    entries = _entries(tables[0], geometry)
    _check_chains(entries, geometry)
    return FatVolume(geometry.is_fat32, geometry.cluster_bytes, entries[_FIRST:].count(0))


def _geometry(boot: bytes, size_bytes: int) -> _Geometry:
    if len(boot) < _BOOT_BYTES or boot[-2:] != _SIGNATURE:
        raise _damaged("it has no boot sector")
    sector, per_cluster, reserved, tables, roots, short, _, short_table, long, long_table = _FIGURES.unpack_from(boot)
    sectors, table_sectors = short or long, short_table or long_table
    if sector not in (512, 1024, 2048, _MAX_SECTOR_BYTES) or not _is_power_of_2(per_cluster):
        raise _damaged(f"it says that {per_cluster} sectors of {sector} bytes are a cluster")
    if sector * per_cluster > _MAX_CLUSTER_BYTES or not reserved or tables not in (1, 2) or not table_sectors:
        raise _damaged("its boot sector holds figures that cannot be")
    if sectors * sector > size_bytes:
        raise _damaged(f"it says that it has {sectors * sector} bytes, and its partition has {size_bytes}")
    before_data = reserved + tables * table_sectors + -(-roots * _DIRECTORY_ENTRY_BYTES // sector)
    clusters = (sectors - before_data) // per_cluster
    geometry = _Geometry(
        sector,
        sector * per_cluster,
        reserved * sector,
        table_sectors * sector,
        tables,
        clusters,
        _ROOT_CLUSTER.unpack_from(boot)[0] if clusters >= _FAT32_FROM else 0,
    )
    if not _FAT16_FROM <= clusters < _MAX_CLUSTERS:
        raise _damaged(f"it has {clusters} clusters: it is neither FAT16 nor FAT32")
    if geometry.is_fat32 in (bool(roots), bool(short_table)):
        raise _damaged(f"it has the clusters of FAT{32 if geometry.is_fat32 else 16}, and otherwise not its form")
    if geometry.table_bytes > _MAX_TABLE_BYTES:
        raise _damaged(f"it says that its allocation table has {geometry.table_bytes} bytes, for {clusters} clusters")
    if geometry.table_bytes < geometry.behind * (4 if geometry.is_fat32 else 2):
        raise _damaged("its allocation table is too short for its clusters")
    return geometry


def _is_power_of_2(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _entries(table: bytes, geometry: _Geometry) -> array.array[int]:
    """What stands in the table for each cluster; the first two are no clusters."""
    entries = array.array("I" if geometry.is_fat32 else "H", table)
    if sys.byteorder == "big":
        entries.byteswap()
    used = entries[: geometry.behind]
    # The upper four bits are no part of a FAT32 entry.
    return array.array("I", (entry & 0x0FFF_FFFF for entry in used)) if geometry.is_fat32 else used


def _check_chains(entries: Sequence[int], geometry: _Geometry) -> None:
    clusters = range(_FIRST, geometry.behind)
    no_cluster_from = 0x0FFF_FFF7 if geometry.is_fat32 else 0xFFF7
    follows: dict[int, int] = {}
    led_to: set[int] = set()
    for cluster in clusters:
        following = entries[cluster]
        if not following or following >= no_cluster_from:
            continue
        if following not in clusters or not entries[following]:
            raise _damaged(f"cluster {cluster} leads to {following}, which holds nothing")
        if following in led_to:
            raise _damaged(f"two files share cluster {following}")
        led_to.add(following)
        follows[cluster] = following
    root = geometry.root_cluster
    if geometry.is_fat32 and (root not in clusters or not entries[root] or root in led_to):
        raise _damaged(f"its root folder cannot begin in cluster {root}")
    _check_for_circles(follows, led_to)


def _check_for_circles(follows: dict[int, int], led_to: set[int]) -> None:
    """No cluster is led to twice, so what cannot be reached from a beginning is a circle."""
    reached = 0
    for beginning in follows.keys() - led_to:
        cluster = beginning
        while (following := follows.get(cluster)) is not None:
            cluster = following
            reached += 1
    if reached != len(follows):
        raise _damaged(f"a chain of {len(follows) - reached} clusters leads round in a circle")


def _damaged(how: str) -> FleetError:
    return FleetError(f"the image's boot file system is damaged: {how}")
