"""Compressed payloads: Sparkplug's envelope whose body is another payload, deflated or gzipped (Sparkplug 3.0, 6.4.2).

What is said to be small may be huge, so no more than the caller allows is ever unpacked.
"""

from __future__ import annotations

import zlib
from typing import Final

from google.protobuf.message import DecodeError

from contract import sparkplug_b_pb2 as pb
from contract.errors import CodecError

COMPRESSED: Final = "SPBV1.0_COMPRESSED"
ALGORITHM: Final = "algorithm"
_MARK: Final = COMPRESSED.encode()
# What zlib is told to expect. A deflated body usually has zlib's header, as Java's Deflater and pako write it; some
# senders write none.
_ZLIB, _GZIP, _RAW_DEFLATE = 15, 31, -15
_FORMATS: Final = {"DEFLATE": (_ZLIB, _RAW_DEFLATE), "GZIP": (_GZIP,)}


def unpacked(encoded: bytes, max_bytes: int) -> bytes:
    """The payload that a compressed one holds; of one that is not compressed, the very bytes that were given.

    Raises CodecError for an unknown algorithm, a body that cannot be unpacked, one that unpacks to more than
    `max_bytes`, and one that is compressed once more. A payload without the mark costs a search and is not decoded.
    """
    envelope = _envelope(encoded)
    if envelope is None:
        return encoded
    body = _inflated(envelope.body, _algorithm(envelope), max_bytes)
    inner = _parsed(body)
    if inner.uuid == COMPRESSED:
        raise CodecError("a compressed payload holds another compressed one")
    if envelope.HasField("seq") and not inner.HasField("seq"):
        body += pb.Payload(seq=envelope.seq).SerializeToString()
    return body


def _envelope(encoded: bytes) -> pb.Payload | None:
    if _MARK not in encoded:
        return None
    try:
        message = pb.Payload.FromString(encoded)
    except DecodeError:
        return None  # no payload at all: whoever decodes it will say so
    return message if message.uuid == COMPRESSED else None


def _algorithm(envelope: pb.Payload) -> str:
    named = [metric.string_value for metric in envelope.metrics if metric.name == ALGORITHM]
    # Senders that leave it out mean DEFLATE.
    algorithm = named[0].upper() if named else "DEFLATE"
    if algorithm not in _FORMATS:
        raise CodecError(f"compressed by {named[0][:40]!r}: allowed are {' and '.join(_FORMATS)}")
    return algorithm


def _inflated(body: bytes, algorithm: str, max_bytes: int) -> bytes:
    fault = ""
    for window_bits in _FORMATS[algorithm]:
        unpacker = zlib.decompressobj(window_bits)
        try:
            plain = unpacker.decompress(body, max_bytes + 1)
        except zlib.error as exc:
            fault = fault or str(exc)
            continue
        if len(plain) > max_bytes:
            raise CodecError(f"{algorithm}: {len(body)} bytes hold more than the {max_bytes} allowed")
        if not unpacker.eof or unpacker.unused_data:
            raise CodecError(f"{algorithm}: {len(body)} bytes end too early or too late")
        return plain
    raise CodecError(f"{algorithm}: {len(body)} bytes cannot be unpacked: {fault}")


def _parsed(body: bytes) -> pb.Payload:
    try:
        return pb.Payload.FromString(body)
    except DecodeError as exc:
        raise CodecError(f"a compressed payload holds none ({len(body)} bytes): {exc}") from exc
