"""Decompression as a stream, in bounded memory: xz and zstd, told apart by their first bytes."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING, Final, Protocol

from backports import zstd

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

PIECE_BYTES: Final = 1 << 20
# `xz -9` asks for 65 MiB; who asks for more than this wants to hurt.
_MAX_XZ_MEMORY_BYTES: Final = 256 << 20
# 128 MiB, the most that zstd itself takes without being told to.
_MAX_ZSTD_WINDOW_LOG: Final = 27
_XZ_MAGIC: Final = b"\xfd7zXZ\x00"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_STRANGERS: Final = {b"\x1f\x8b": "gzip", b"PK": "zip", b"BZh": "bzip2", b"7z\xbc\xaf": "7-Zip"}


class _Decompressor(Protocol):
    """What lzma's and zstd's have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def unpacked(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Pieces, none of them empty, of what `read` gives packed or as it is; raises FleetError for what is damaged."""
    data = read()
    for magic, name in _STRANGERS.items():
        if data.startswith(magic):
            raise FleetError(f"the image is packed by {name}; unpack it: .img, .img.xz and .img.zst are read")
    if not data.startswith((_XZ_MAGIC, _ZSTD_MAGIC)):
        while data:
            yield data
            data = read()
        return
    packed = "xz" if data.startswith(_XZ_MAGIC) else "zstd"
    try:
        while data:
            # Parallel packers make many frames, and xz allows zeros between them.
            data = (yield from _frame(_decompressor(packed), data, read)).lstrip(b"\0")
            while not data and (more := read()):
                data = more.lstrip(b"\0")
    except (lzma.LZMAError, zstd.ZstdError, EOFError) as exc:
        raise FleetError(f"the image is not whole {packed}: {exc}") from exc
    except MemoryError as exc:
        raise FleetError(f"the image asks for more memory to unpack it than {packed} images do") from exc


def _decompressor(packed: str) -> _Decompressor:
    if packed == "xz":
        return lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY_BYTES)
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_ZSTD_WINDOW_LOG})


def _frame(decompressor: _Decompressor, data: bytes, read: Callable[[], bytes]) -> Generator[bytes, None, bytes]:
    """What is in one frame; returns the bytes behind it."""
    while True:
        if piece := decompressor.decompress(data, PIECE_BYTES):
            yield piece
        if decompressor.eof:
            return decompressor.unused_data
        data = b""
        if decompressor.needs_input and not (data := read()):
            raise EOFError("it ends too early")
