"""The bodies of answers: unpacked, and never more of them than is allowed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx

_GZIP: Final = 31  # zlib's window bits for gzip's own header and check sum


class _Plain:
    """A body that is not compressed."""

    def add(self, piece: bytes) -> bytes:
        return piece

    def end(self) -> None:
        """Needs no end."""


class _Gunzip:
    """A gzip body; gives one byte more than allowed at most, however much there is in it."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes + 1
        self._stream = zlib.decompressobj(_GZIP)

    def add(self, piece: bytes) -> bytes:
        inflated = self._stream.decompress(piece, max(1, self._left))
        self._left -= len(inflated)
        return inflated

    def end(self) -> None:
        if not self._stream.eof:
            raise ValueError("the gzip body ends too early")


async def bounded_body(response: httpx.Response, max_bytes: int) -> bytes:
    """The body, unpacked; raises ValueError or zlib.error for one that is too long or cannot be."""
    inflate = _inflater(response.headers.get("content-encoding", "identity"), max_bytes)
    body, received = bytearray(), 0
    async for piece in response.aiter_raw():
        received += len(piece)
        body += inflate.add(piece)
        if max(received, len(body)) > max_bytes:
            raise ValueError(f"the answer is over {max_bytes} bytes")
    inflate.end()
    return bytes(body)


def _inflater(encoding: str, max_bytes: int) -> _Plain | _Gunzip:
    match encoding.strip().lower():
        case "identity" | "":
            return _Plain()
        case "gzip" | "x-gzip":
            return _Gunzip(max_bytes)
        case _:
            raise ValueError(f"the answer is encoded as {encoding[:20]!r}, allowed is gzip")
