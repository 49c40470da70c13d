"""Compressed payloads: what goes in comes out, nothing large comes out of something small, and no bytes crash it."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import sparkplug_b_pb2 as pb
from contract.compression import COMPRESSED, unpacked
from contract.datatypes import DataType
from contract.errors import CodecError
from contract.sparkplug import Metric, Payload, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 100_000
PLAIN = encode(Payload(1_700_000_000_000, (Metric("pressure", DataType.DOUBLE, 1.5, 1_700_000_000_000),), seq=3))
ANYTHING = st.binary(max_size=200)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


def envelope(body: bytes, algorithm: str | None, **more: int) -> bytes:
    named = [pb.Metric(name="algorithm", datatype=12, string_value=algorithm)] if algorithm else []
    return pb.Payload(uuid=COMPRESSED, body=body, metrics=named, **more).SerializeToString()


@pytest.mark.parametrize(
    ("algorithm", "pack"),
    [
        ("DEFLATE", zlib.compress),
        ("deflate", raw_deflate),
        (None, zlib.compress),
        ("GZIP", gzip.compress),
        ("gzip", gzip.compress),
    ],
)
def test_a_body_is_unpacked_by_the_algorithm_that_is_named(
    algorithm: str | None, pack: Callable[[bytes], bytes]
) -> None:
    assert unpacked(envelope(pack(PLAIN), algorithm), LIMIT) == PLAIN


def test_a_payload_that_is_not_compressed_is_the_very_same() -> None:
    assert unpacked(PLAIN, LIMIT) is PLAIN
    named = encode(Payload(1, (Metric(COMPRESSED, DataType.STRING, COMPRESSED, 1),)))
    assert unpacked(named, LIMIT) is named, "a text that only looks like the mark"
    garbage = b"\xff" + COMPRESSED.encode()
    assert unpacked(garbage, LIMIT) is garbage


def test_a_number_beside_the_body_is_kept_where_the_body_has_none() -> None:
    bare = encode(Payload(1, ()))
    assert decode(unpacked(envelope(zlib.compress(bare), "DEFLATE", seq=7), LIMIT)).seq == 7
    assert decode(unpacked(envelope(zlib.compress(PLAIN), "DEFLATE", seq=7), LIMIT)).seq == 3


@pytest.mark.parametrize("pack", [zlib.compress, raw_deflate])
def test_a_bomb_is_not_unpacked_past_the_bound(pack: Callable[[bytes], bytes]) -> None:
    bomb = envelope(pack(bytes(50_000_000)), "DEFLATE")
    with pytest.raises(CodecError, match=f"more than the {LIMIT} allowed"):
        unpacked(bomb, LIMIT)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (envelope(zlib.compress(PLAIN), "ZSTD"), "'ZSTD': allowed are DEFLATE and GZIP"),
        (envelope(zlib.compress(PLAIN), "GZIP"), "GZIP: .* cannot be unpacked"),
        (envelope(gzip.compress(PLAIN)[:-9], "GZIP"), "too early or too late"),
        (envelope(zlib.compress(PLAIN) + b"more", "DEFLATE"), "too early or too late"),
        (envelope(b"", "DEFLATE"), "too early or too late"),
        (envelope(zlib.compress(b"\xff\xff"), "DEFLATE"), "holds none"),
        (envelope(zlib.compress(envelope(zlib.compress(PLAIN), None)), None), "another compressed one"),
    ],
    # The bytes make no names: a gzip file tells when it was made, and each process would have a test of its own.
    ids=["algorithm", "no gzip", "cut short", "more behind it", "empty", "no payload", "twice"],
)
def test_what_cannot_be_unpacked_is_told(bad: bytes, why: str) -> None:
    with pytest.raises(CodecError, match=why):
        unpacked(bad, LIMIT)


@given(st.builds(envelope, ANYTHING | ANYTHING.map(zlib.compress), st.none() | st.text(max_size=9)) | ANYTHING)
def test_any_bytes_are_unpacked_or_raise_the_one_error(data: bytes) -> None:
    try:
        found = unpacked(data, LIMIT)
    except CodecError:
        return
    assert len(found) <= max(LIMIT, len(data))
