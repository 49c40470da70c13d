"""The parts of an MJPEG stream, however its bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.vision.mjpeg import MultipartParser, Part, StreamFault


def parsed(stream: bytes, sizes: list[int], *, boundary: str = "frame") -> list[Part]:
    """What the parser makes of a stream that comes in pieces of these sizes, and the rest at once."""
    parser = MultipartParser(boundary, 1 << 16)
    parts: list[Part] = []
    for size in [*sizes, len(stream)]:
        parts += parser.feed(stream[:size])
        stream = stream[size:]
    return parts


@given(
    bodies=st.lists(st.binary(max_size=200).filter(lambda body: b"--frame" not in body), max_size=5),
    sizes=st.lists(st.integers(1, 100), max_size=20),
    newline=st.sampled_from([b"\r\n", b"\n"]),
    with_length=st.booleans(),
    junk=st.sampled_from([b"", b"preamble\r\n"]),
)
def test_parts_come_whole_however_the_bytes_are_cut(
    bodies: list[bytes], sizes: list[int], newline: bytes, *, with_length: bool, junk: bytes
) -> None:
    # Without a length a line feed before the delimiter is the delimiter's, and so is a carriage return before it.
    bodies = bodies if with_length else [body.rstrip(b"\r\n") for body in bodies]
    stream = junk
    for i, body in enumerate(bodies):
        length = b"Content-Length: %d" % len(body) + newline if with_length else b""
        stream += b"--frame" + newline + b"X-Number: %d" % i + newline + length + newline + body + newline
    parts = parsed(stream + b"--frame" + newline, sizes)
    assert [part.body for part in parts] == bodies
    assert [part.headers["x-number"] for part in parts] == [str(i) for i in range(len(bodies))]


def test_a_boundary_announced_with_its_dashes() -> None:
    stream = b"--frame\r\nContent-Length: 2\r\n\r\nab\r\n--frame\r\nContent-Length: 1\r\n\r\nc"
    assert [part.body for part in parsed(stream, [], boundary="--frame")] == [b"ab", b"c"]


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (b"--frame\r\nContent-Length: 70000\r\n\r\n", "max_frame_bytes"),
        (b"--frame\r\nContent-Length: -1\r\n\r\n", "not a number"),
        (b"--frame\r\nA: b\r\n\r\n" + b"x" * 70_000, "max_frame_bytes"),
        (b"--frame\r\n" + b"A: b\r\n" * 2000, "header of a part"),
        (b"--frame--\r\n", "ended the stream"),
    ],
)
@pytest.mark.parametrize("piece", [1000, 10**6])
def test_streams_that_cannot_be_read_on(stream: bytes, complaint: str, piece: int) -> None:
    with pytest.raises(StreamFault, match=complaint):
        parsed(stream, [piece] * (len(stream) // piece))
