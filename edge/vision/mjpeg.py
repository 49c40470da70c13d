"""The parts of a multipart/x-mixed-replace stream (MJPEG over HTTP), from bytes as they come. Bounded, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_HEADER_BYTES: Final = 8 * 1024
_MAX_BETWEEN_BYTES: Final = 64 * 1024


class StreamFault(Exception):  # noqa: N818 - the camera's fault, told to the agent as a line of text
    """A stream that cannot be read on; the message says what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its header fields by lower-case name, and its body."""

    headers: Mapping[str, str]
    body: bytes


class MultipartParser:
    """Takes bytes, gives parts. A part is given when its last byte, or the delimiter after it, has come."""

    def __init__(self, boundary: str, max_body_bytes: int) -> None:
        # Some cameras announce the boundary with the dashes of the delimiter.
        self._delimiter = b"--" + boundary.lstrip("-").encode()
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._headers: dict[str, str] | None = None
        self._searched = 0

    @property
    def is_inside_part(self) -> bool:
        """Whether the stream, if it ended here, would end in the middle of a part."""
        return self._headers is not None

    def feed(self, data: bytes) -> Iterator[Part]:
        """The parts that these bytes complete; raises StreamFault."""
        self._buffer += data
        while True:
            if self._headers is None and not self._take_headers():
                return
            body = self._take_body()
            if body is None:
                return
            assert self._headers is not None
            part, self._headers = Part(self._headers, body), None
            yield part

    def _take_headers(self) -> bool:
        start = self._buffer.find(self._delimiter)
        if start < 0:
            if len(self._buffer) > _MAX_BETWEEN_BYTES:
                raise StreamFault(f"no {self._delimiter.decode()!r} in {len(self._buffer)} bytes")
            return False
        after = start + len(self._delimiter)
        if self._buffer[after : after + 2] == b"--":
            raise StreamFault("the camera ended the stream")
        end, width = _blank_line(self._buffer, after)
        if end < 0:
            if len(self._buffer) - after > _MAX_HEADER_BYTES:
                raise StreamFault(f"the header of a part is over {_MAX_HEADER_BYTES} bytes")
            return False
        self._headers = _fields(bytes(self._buffer[after:end]))
        del self._buffer[: end + width]
        self._searched = 0
        return True

    def _take_body(self) -> bytes | None:
        assert self._headers is not None
        announced = self._headers.get("content-length")
        length = self._search_end() if announced is None else _length(announced)
        if length > self._max_body_bytes:
            raise StreamFault(f"a frame of {length} bytes: allowed are {self._max_body_bytes} (max_frame_bytes)")
        if length < 0 or length > len(self._buffer):
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _search_end(self) -> int:
        """Length of a body that ends with the delimiter, -1 where that has not come yet."""
        found = self._buffer.find(b"\n" + self._delimiter, self._searched)
        if found < 0:
            self._searched = max(0, len(self._buffer) - len(self._delimiter) - 1)
            # What cannot be a delimiter any more is body for certain.
            return self._searched if self._searched > self._max_body_bytes else -1
        return found - 1 if found and self._buffer[found - 1] == ord("\r") else found


def _blank_line(buffer: bytearray, start: int) -> tuple[int, int]:
    """Where the header that starts at `start` ends, and how wide the blank line is; -1 where it has not come."""
    ends = [(buffer.find(blank, start), len(blank)) for blank in (b"\r\n\r\n", b"\n\n")]
    found = [end for end in ends if end[0] >= 0]
    return min(found) if found else (-1, 0)


def _fields(header: bytes) -> dict[str, str]:
    lines = header.decode("latin-1").splitlines()
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _length(announced: str) -> int:
    if not announced.isascii() or not announced.isdigit() or len(announced) > 18:  # noqa: PLR2004 - digits of an int64
        raise StreamFault(f"Content-Length {announced[:40]!r} is not a number of bytes")
    return int(announced)
