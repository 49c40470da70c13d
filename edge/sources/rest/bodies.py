"""Bodies of answers into plain values: unpacked, parsed, bounded, refused where they could be read in two ways."""

from __future__ import annotations

import csv
import io
import json
import zlib
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

MAX_ROWS: Final = 5000
_SHOWN: Final = 80
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


def parse(body: bytes, form: Literal["json", "csv"]) -> object:
    """The document; raises ValueError. A CSV is a list of its rows, each by the names in the first line."""
    return _json(body) if form == "json" else _csv(body)


def _json(body: bytes) -> object:
    try:
        document: object = json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"not JSON ({str(exc)[:_SHOWN]}): {shown(body)}") from exc
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _csv(body: bytes) -> list[dict[str, str]]:
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        return list(_rows([name.strip() for name in next(lines, [])], lines))
    except (ValueError, csv.Error) as exc:
        raise ValueError(f"not CSV ({str(exc)[:_SHOWN]}): {shown(body)}") from exc


def _rows(names: list[str], lines: Iterator[list[str]]) -> Iterator[dict[str, str]]:
    if not names or len(set(names)) < len(names):
        raise ValueError("the first line does not name each column once")
    for number, line in enumerate(lines):
        if line and len(line) != len(names):
            raise ValueError(f"a row of {len(line)} where {len(names)} columns are named")
        if number >= MAX_ROWS:
            raise ValueError(f"over {MAX_ROWS} rows")
        if line:
            yield dict(zip(names, line, strict=True))


def reason_in(body: bytes) -> str:
    """What an error's body says, in whichever of the usual keys; else its beginning."""
    try:
        document = _json(body)
    except ValueError:
        return shown(body)
    if isinstance(document, dict):
        for key in ("detail", "message", "reason", "error", "title"):
            if isinstance(said := document.get(key), str) and said:
                return repr(said[: 2 * _SHOWN])
    return shown(body)


def shown(body: bytes, length: int = _SHOWN) -> str:
    """The beginning of a body as a message shows it."""
    return repr(body[:length].decode(errors="replace"))
