"""What passes between the agent and the models' process: a JSON object and bytes, each with its length before it."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    import asyncio

Head = dict[str, Any]

_LENGTHS: Final = struct.Struct("<II")
MAX_HEAD_BYTES: Final = 1 << 20
# A window is at most 65,536 values and as many before it, at 9 bytes each; a message has one.
MAX_BODY_BYTES: Final = 2 << 20


class FrameError(Exception):
    """What came is no frame: whoever wrote it is not to be believed any more."""


def encode_frame(head: Head, body: bytes = b"") -> bytes:
    """The frame's bytes."""
    text = json.dumps(head, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(text), len(body)) + text + body


def read_frame(stream: BinaryIO) -> tuple[Head, bytes] | None:
    """The next frame, None at the end of the stream; raises FrameError."""
    prefix = stream.read(_LENGTHS.size)
    if len(prefix) < _LENGTHS.size:
        return None
    head_bytes, body_bytes = _lengths(prefix)
    text, body = stream.read(head_bytes), stream.read(body_bytes)
    return (_head(text), body) if len(text) + len(body) == head_bytes + body_bytes else None


async def receive_frame(reader: asyncio.StreamReader) -> tuple[Head, bytes]:
    """The next frame; raises asyncio.IncompleteReadError at the end of the stream, and FrameError."""
    head_bytes, body_bytes = _lengths(await reader.readexactly(_LENGTHS.size))
    text = await reader.readexactly(head_bytes)
    return _head(text), await reader.readexactly(body_bytes)


def _lengths(prefix: bytes) -> tuple[int, int]:
    head_bytes, body_bytes = _LENGTHS.unpack(prefix)
    if head_bytes > MAX_HEAD_BYTES or body_bytes > MAX_BODY_BYTES:
        raise FrameError(f"a frame of {head_bytes} + {body_bytes} bytes")
    return head_bytes, body_bytes


def _head(text: bytes) -> Head:
    try:
        head = json.loads(text)
    except ValueError as exc:
        raise FrameError("a frame without JSON") from exc
    if not isinstance(head, dict):
        raise FrameError("a frame without an object")
    return head
