"""Images that were made to hurt, or broke on their way, end in one clear line."""

from __future__ import annotations

import lzma
import random
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import FleetError
from fleet.flash import Load, fat, rehearse
from fleet.flash.image import Image, opened
from fleet.flash.partitions import TABLE_BYTES, read_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENTRY = struct.Struct("<B3sB3sII")
FAT_AT = 512  # one reserved sector, as mkfs.vfat has it for FAT16: asserted where it is used


def set_entry(content: bytearray, slot: int, first: int, sectors: int, kind: int = 0x0C) -> None:
    ENTRY.pack_into(content, 446 + 16 * slot, 0, b"", kind, b"", first, sectors)


def table(*entries: tuple[int, int, int]) -> bytes:
    content = bytearray(TABLE_BYTES)
    content[510:512] = b"\x55\xaa"
    for slot, (first, sectors, kind) in enumerate(entries):
        set_entry(content, slot, first, sectors, kind)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no partition table"),
        (bytes(TABLE_BYTES), "no partition table"),
        (table(), "is empty"),
        (table((0, 10, 0x0C)), "lies over the partition table"),
        (table((2048, 100, 0x0C), (2100, 100, 0x83)), "partitions 1 and 2 of the image overlap"),
        (table((2048, 100, 0xEE)), "GPT has no header"),
    ],
)
def test_a_partition_table_that_cannot_be_is_told(content: bytes, complaint: str) -> None:
    with pytest.raises(FleetError, match=complaint):
        read_table(content)


def test_an_image_without_fat_is_told() -> None:
    with pytest.raises(FleetError, match="no FAT partition"):
        _ = read_table(table((2048, 100, 0x83))).boot


@given(st.binary(min_size=64, max_size=64), st.booleans())
def test_whatever_an_mbr_says_its_partitions_lie_apart_behind_it(entries: bytes, keep_kind: bool) -> None:  # noqa: FBT001 - hypothesis draws it
    content = bytearray(TABLE_BYTES)
    content[446:510] = entries
    content[510:512] = b"\x55\xaa"
    if keep_kind:
        content[450] = 0x0C
    try:
        found = read_table(bytes(content))
    except FleetError:
        return
    ends = [512]
    for partition in found.partitions:
        assert ends[-1] <= partition.start < partition.end
        ends.append(partition.end)
    assert found.end == ends[-1]


@pytest.mark.parametrize("at", [512 + 40, 1024 + 33, 512 + 16])
def test_a_gpt_whose_checksum_is_wrong_is_told(make_card: Callable[..., Any], at: int) -> None:
    content = bytearray(make_card(gpt=True).path.read_bytes()[:TABLE_BYTES])
    content[at] ^= 1
    with pytest.raises(FleetError, match="checksum is wrong"):
        read_table(bytes(content))


def poke(at: int, form: str, value: int) -> Callable[[bytearray, int], None]:
    """Puts a number at an offset from the beginning of the boot partition."""
    return lambda content, boot: struct.pack_into(form, content, boot + at, value)


def cluster(number: int, value: int) -> Callable[[bytearray, int], None]:
    """Sets an entry of both allocation tables."""

    def change(content: bytearray, boot: int) -> None:
        reserved, tables, length = (
            struct.unpack_from("<H", content, boot + 14)[0],
            content[boot + 16],
            struct.unpack_from("<H", content, boot + 22)[0],
        )
        assert tables == 2
        for each in range(tables):
            struct.pack_into("<H", content, boot + (reserved + each * length) * 512 + 2 * number, value)

    return change


def circle(content: bytearray, boot: int) -> None:
    for number, following in ((3000, 3001), (3001, 3002), (3002, 3000)):
        cluster(number, following)(content, boot)


def shared(content: bytearray, boot: int) -> None:
    for number, following in ((3000, 3002), (3001, 3002), (3002, 0xFFFF)):
        cluster(number, following)(content, boot)


def beyond(content: bytearray, boot: int) -> None:
    del boot
    set_entry(content, 1, 1 << 20, 1 << 20, 0x83)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (beyond, "the image ends at byte"),
        (poke(510, "<H", 0), "no boot sector"),
        (poke(11, "<H", 500), "sectors of 500 bytes"),
        (poke(13, "<B", 3), "3 sectors of 512 bytes"),
        (poke(13, "<B", 128), "clusters: it is neither FAT16 nor FAT32"),
        (poke(16, "<B", 200), "figures that cannot be"),
        (poke(19, "<H", 65000), "its partition has"),
        (poke(22, "<H", 2), "too short for its clusters"),
        (poke(17, "<H", 0), "otherwise not its form"),
        (circle, "a chain of 3 clusters leads round in a circle"),
        (shared, "two files share cluster 3002"),
        (cluster(3000, 60000), "leads to 60000, which holds nothing"),
        (cluster(3000, 3001), "leads to 3001, which holds nothing"),
        (poke(512 * 2 + 100, "<H", 7), "allocation tables differ"),
    ],
)
def test_a_boot_partition_that_lies_is_told(
    make_card: Callable[..., Any], load: Load, change: Callable[[bytearray, int], None], complaint: str
) -> None:
    card = make_card()
    content = bytearray(card.path.read_bytes())
    change(content, card.boot_start)
    card.path.write_bytes(content)
    with pytest.raises(FleetError, match=complaint) as caught:
        try_all(card.path, load)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_too_long_for_any_image_is_not_even_read() -> None:
    """It would be read into memory, and what it says of itself is gigabytes."""
    long = (1 << 30) // 512
    boot = bytearray(512)
    # Sectors, a cluster's, reserved ones, tables, root entries, sectors, media, sectors a table; and longer forms.
    struct.pack_into("<11xHBHBHHBH8xII", boot, 0, 512, 1, 32, 2, 0, 0, 0xF8, 0, 2 * long + 70_000, long)
    boot[510:] = b"\x55\xaa"
    read: list[int] = []

    def piece(_offset: int, length: int) -> bytes:
        read.append(length)
        return bytes(boot)

    with pytest.raises(FleetError, match="says that its allocation table has 1073741824 bytes, for 69968 clusters"):
        fat.check(piece, 3 << 30)
    assert read == [512]


def try_all(path: Path, load: Load) -> None:
    read_all(path)
    rehearse(path, load)


def read_all(path: Path) -> None:
    with opened(path) as image:
        for _ in image.rest():
            pass


def test_fat32s_root_folder_is_looked_at(make_card: Callable[..., Any], load: Load) -> None:
    card = make_card(bits=32)
    content = bytearray(card.path.read_bytes())
    struct.pack_into("<I", content, card.boot_start + 44, 4_000_000)
    card.path.write_bytes(content)
    with pytest.raises(FleetError, match="root folder cannot begin in cluster 4000000"):
        rehearse(card.path, load)


def test_a_file_that_says_it_is_huge_is_not_read(make_card: Callable[..., Any], load: Load) -> None:
    card = make_card(files={"cmdline.txt": b"root=/dev/x " * 1000})
    with pytest.raises(FleetError, match="more than 4096 bytes"):
        rehearse(card.path, load)


def test_an_image_that_is_no_raspberry_pi_os_is_told(make_card: Callable[..., Any], load: Load) -> None:
    with pytest.raises(FleetError, match="is it Raspberry Pi OS"):
        rehearse(make_card(files={"kernel.img": b"x"}).path, load)


def test_what_is_a_file_where_a_folder_is_wanted_is_told(make_card: Callable[..., Any], load: Load) -> None:
    with pytest.raises(FleetError, match="mmd ::headwater"):
        rehearse(make_card(files={"cmdline.txt": b"root=/dev/x\n", "headwater": b"x"}).path, load)


def test_a_folder_is_no_seed(make_card: Callable[..., Any], load: Load) -> None:
    card = make_card(files={"meta-data": b"x"}, folders=("user-data",))
    with pytest.raises(FleetError, match="is it Raspberry Pi OS"):
        rehearse(card.path, load)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 255)), min_size=1, max_size=12), st.integers(0, 2**32))
def test_whatever_is_wrong_in_a_boot_partition_is_a_fleet_error_or_does_not_matter(
    make_card: Callable[..., Any], load: Load, changes: list[tuple[int, int]], seed: int
) -> None:
    card = make_card()
    content = bytearray(card.path.read_bytes())
    luck = random.Random(seed)
    for at, value in changes:
        # Boot sector, allocation table and root folder, in equal parts.
        offset = luck.choice([at % 64, 512 + at % 200, 512 * 73 + at % 2000])
        content[card.boot_start + offset] = value
    card.path.write_bytes(content)
    try:
        prepared = rehearse(card.path, load)
    except FleetError:
        return
    assert "headwater/enrol.json" in prepared.paths


def pack_xz(content: bytes) -> bytes:
    return lzma.compress(content, preset=0)


def pack_zstd(content: bytes) -> bytes:
    # Its command line's default, not its library's.
    return zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda packed: packed[: len(packed) // 2], "not whole"),
        (lambda packed: packed[:-20], "not whole"),
        (lambda packed: packed[:200] + b"\xff" * 50 + packed[250:], "not whole"),
        (lambda packed: packed + b"rubbish", "not whole"),
        (lambda _: b"\x1f\x8b" + bytes(100), "packed by gzip"),
        (lambda _: b"PK\x03\x04" + bytes(100), "packed by zip"),
    ],
)
@pytest.mark.parametrize("pack", [pack_xz, pack_zstd])
def test_a_packed_image_that_broke_is_told(
    make_card: Callable[..., Any],
    tmp_path: Path,
    pack: Callable[[bytes], bytes],
    change: Callable[[bytes], bytes],
    complaint: str,
) -> None:
    path = tmp_path / "broken.img"
    path.write_bytes(change(pack(make_card().path.read_bytes())))
    with pytest.raises(FleetError, match=complaint):
        read_all(path)


@pytest.mark.parametrize("pack", [pack_xz, pack_zstd])
def test_a_bomb_is_stopped_behind_its_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr("fleet.flash.image._MAX_REST_BYTES", 2 << 20)
    path = tmp_path / "bomb.img"
    path.write_bytes(pack(table((34, 100, 0x0C)) + bytes(16 << 20)))
    with pytest.raises(FleetError, match="goes on for over 2 MiB behind its last partition"):
        read_all(path)


def test_an_image_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "greedy.img"
    packed = bytearray(pack_xz(bytes(1000)))
    # The header of the first block: its size, flags, the filter, and in one byte how large the dictionary is: 2 GiB.
    header = slice(12, 12 + (packed[12] + 1) * 4 - 4)
    packed[header.start + 4] = 38
    struct.pack_into("<I", packed, header.stop, zlib.crc32(packed[header]))
    path.write_bytes(packed)
    with pytest.raises(FleetError, match=r"not whole xz: [Mm]emory usage limit"):
        read_all(path)
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 30}
    compressor = zstd.ZstdCompressor(options=options)
    path.write_bytes(compressor.compress(bytes(1000)) + compressor.flush())
    with pytest.raises(FleetError, match="not whole zstd"):
        read_all(path)


def test_reading_stops_where_it_is_told(make_card: Callable[..., Any]) -> None:
    card = make_card()
    with card.path.open("rb") as file:
        image = Image(file)
        head = b"".join(image.read(card.boot_start))
        assert (len(head), image.position) == (card.boot_start, card.boot_start)
        assert head + b"".join(image.rest()) == card.path.read_bytes()
