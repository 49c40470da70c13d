"""Framing as a property: however the bytes come and whatever is among them, ours is taken and nothing else is."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from edge.sources.modbus.framing import (
    Framing,
    NotModbus,
    Request,
    RtuFraming,
    TcpFraming,
    crc16,
    read_request,
    write_coil_request,
    write_registers_request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLES = st.sampled_from(["coil", "discrete", "holding", "input"])
REQUESTS = st.builds(read_request, st.integers(0, 255), TABLES, st.integers(0, 65_000), st.integers(1, 125))
CUTS = st.lists(st.integers(1, 300), max_size=30)
NOISE = st.binary(max_size=40)


def answer_to(request: Request, fill: int) -> bytes:
    return request.head + bytes((fill + i) % 256 for i in range(request.answer_size - len(request.head)))


def as_tcp(transaction: int, unit_id: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", transaction & 0xFFFF, 0, len(pdu) + 1, unit_id) + pdu


def as_rtu(unit_id: int, pdu: bytes) -> bytes:
    body = bytes([unit_id]) + pdu
    return body + struct.pack("<H", crc16(body))


def fed(framing: Framing, data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The answers that a framing finds in bytes that come in pieces."""
    found = []
    for size in [*cuts, len(data)]:
        piece, data = data[:size], data[size:]
        if piece and (pdu := framing.feed(piece)) is not None:
            found.append(pdu)
    return found


@given(data=st.binary(max_size=300))
def test_the_crc_is_that_of_pymodbus(data: bytes) -> None:
    assert crc16(data).to_bytes(2, "little") == FramerRTU.compute_CRC(data).to_bytes(2, "big")
    assert crc16(data + crc16(data).to_bytes(2, "little")) == 0


def test_the_crc_of_the_catalogue() -> None:
    assert crc16(b"123456789") == 0x4B37


@pytest.mark.parametrize(
    ("request_", "pdu"),
    [
        (read_request(1, "coil", 19, 37), "01 0013 0025"),
        (read_request(1, "discrete", 196, 22), "02 00c4 0016"),
        (read_request(1, "holding", 107, 3), "03 006b 0003"),
        (read_request(1, "input", 8, 1), "04 0008 0001"),
        (write_coil_request(1, 172, value=True, multiple=False), "05 00ac ff00"),
        (write_coil_request(1, 172, value=False, multiple=False), "05 00ac 0000"),
        (write_registers_request(1, 1, [3], multiple=False), "06 0001 0003"),
        (write_coil_request(1, 19, value=True, multiple=True), "0f 0013 0001 01 01"),
        (write_registers_request(1, 1, [10, 258], multiple=False), "10 0001 0002 04 000a 0102"),
        (write_registers_request(1, 1, [3], multiple=True), "10 0001 0001 02 0003"),
    ],
)
def test_requests_are_those_of_the_specification(request_: Request, pdu: str) -> None:
    assert request_.pdu == bytes.fromhex(pdu)


@given(request=REQUESTS, fill=st.integers(0, 255), cuts=CUTS, data=st.data())
def test_tcp_takes_ours_from_among_all_others(
    request: Request, fill: int, cuts: list[int], data: st.DataObject
) -> None:
    framing = TcpFraming()
    own = struct.unpack_from(">H", framing.frame(request))[0]
    pdu = answer_to(request, fill)
    other_function = bytes([pdu[0] % 4 + 1]) + pdu[1:]
    others = [
        as_tcp(own - 1, request.unit_id, pdu),  # late
        as_tcp(own + 1, request.unit_id, pdu),
        as_tcp(own, request.unit_id ^ 1, pdu),
        as_tcp(own, request.unit_id, other_function),
        as_tcp(own, request.unit_id, pdu[:-1]),
        as_tcp(own, request.unit_id, pdu + b"\0"),
        as_tcp(own, request.unit_id, pdu[:1] + bytes([pdu[1] ^ 2]) + pdu[2:]),
        as_tcp(own, request.unit_id, bytes([pdu[0] ^ 1 | 0x80, 2])),
    ]
    before = data.draw(st.lists(st.sampled_from(others), max_size=5))
    after = data.draw(st.lists(st.sampled_from([*others, as_tcp(own, request.unit_id, pdu)]), max_size=3))
    assert fed(framing, b"".join([*before, as_tcp(own, request.unit_id, pdu), *after]), cuts) == [pdu]
    assert framing.skipped == len(before) + len(after)


@given(request=REQUESTS, fill=st.integers(0, 255), cuts=CUTS, noise=NOISE)
def test_tcp_gives_up_a_stream_in_which_the_frames_are_lost(
    request: Request, fill: int, cuts: list[int], noise: bytes
) -> None:
    framing = TcpFraming()
    own = struct.unpack_from(">H", framing.frame(request))[0]
    pdu = answer_to(request, fill)
    try:
        found = fed(framing, noise + as_tcp(own, request.unit_id, pdu), cuts)
    except NotModbus:
        return
    assert found in ([], [pdu])
    assert noise or found


@given(request=REQUESTS, code=st.integers(1, 11), cuts=CUTS, before=NOISE, after=NOISE)
def test_an_exception_is_an_answer(request: Request, code: int, cuts: list[int], before: bytes, after: bytes) -> None:
    refusal = bytes([request.pdu[0] | 0x80, code])
    tcp, rtu = TcpFraming(), RtuFraming()
    own = struct.unpack_from(">H", tcp.frame(request))[0]
    assert fed(tcp, as_tcp(own, request.unit_id, refusal), cuts) == [refusal]
    rtu.frame(request)
    assert fed(rtu, before + as_rtu(request.unit_id, refusal) + after, cuts) == [refusal]


@given(request=REQUESTS, fill=st.integers(0, 255), cuts=CUTS, before=NOISE, after=NOISE)
def test_rtu_takes_ours_from_among_noise(
    request: Request, fill: int, cuts: list[int], before: bytes, after: bytes
) -> None:
    framing = RtuFraming()
    sent = framing.frame(request)
    assert sent == as_rtu(request.unit_id, request.pdu)
    pdu = answer_to(request, fill)
    assert fed(framing, before + as_rtu(request.unit_id, pdu) + after, cuts) == [pdu]


@given(request=REQUESTS, fill=st.integers(0, 255), cuts=CUTS, at=st.integers(0, 300), flip=st.integers(1, 255))
def test_rtu_takes_nothing_of_which_a_byte_is_wrong_or_missing(
    request: Request, fill: int, cuts: list[int], at: int, flip: int
) -> None:
    frame = as_rtu(request.unit_id, answer_to(request, fill))
    at %= len(frame)
    for spoiled in (frame[:at] + bytes([frame[at] ^ flip]) + frame[at + 1 :], frame[:at] + frame[at + 1 :], frame[:at]):
        framing = RtuFraming()
        framing.frame(request)
        assert fed(framing, spoiled, cuts) == []


@given(request=REQUESTS, other=REQUESTS, fill=st.integers(0, 255), cuts=CUTS)
def test_rtu_waits_for_an_answer_that_is_late(request: Request, other: Request, fill: int, cuts: list[int]) -> None:
    framing = RtuFraming()
    framing.frame(request)
    late = as_rtu(request.unit_id, answer_to(request, fill))
    assert fed(framing, late[:3], cuts) == []
    framing.give_up()
    assert framing.owes(request)
    assert fed(framing, late[3:], cuts) == []
    assert not framing.owes(request)
    assert framing.skipped == 1
    framing.frame(other)
    pdu = answer_to(other, fill + 1)
    assert fed(framing, as_rtu(other.unit_id, pdu), cuts) == [pdu]


@given(unit_id=st.integers(0, 255), fill=st.integers(0, 255), cuts=CUTS, swapped=st.booleans())
def test_rtu_tells_the_late_answer_of_another_unit_apart(
    unit_id: int, fill: int, cuts: list[int], *, swapped: bool
) -> None:
    framing = RtuFraming()
    late, current = read_request(unit_id, "holding", 0, 10), read_request(unit_id ^ 1, "holding", 0, 10)
    framing.frame(late)
    framing.give_up()
    framing.frame(current)
    assert framing.owes(late)
    pdu = answer_to(current, fill + 1)
    frames = [as_rtu(unit_id, answer_to(late, fill)), as_rtu(current.unit_id, pdu)]
    assert fed(framing, b"".join(frames[::-1] if swapped else frames), cuts) == [pdu]


def test_an_adapter_that_hears_itself_gives_no_values() -> None:
    # 24 coils from 0x0310 on: the request looks like an answer of three bytes.
    request = read_request(1, "coil", 0x0310, 24)
    framing = RtuFraming()
    echo = framing.frame(request)
    assert framing.feed(echo) is None
    pdu = answer_to(request, 0x55)
    assert framing.feed(as_rtu(1, pdu)) == pdu


@given(data=st.lists(st.binary(min_size=1, max_size=4096), max_size=20))
def test_noise_takes_no_memory(data: list[bytes]) -> None:
    tcp, rtu = TcpFraming(), RtuFraming()
    rtu.frame(read_request(1, "holding", 0, 125))
    tcp.frame(read_request(1, "holding", 0, 125))
    for piece in data:
        rtu.feed(piece)
        try:
            tcp.feed(piece)
        except NotModbus:
            tcp.restart()
        assert len(rtu._buffer) < 260
        assert len(tcp._buffer) < 260


@pytest.mark.parametrize("multiple", [False, True])
def test_an_answer_to_a_write_must_name_what_was_written(multiple: bool) -> None:  # noqa: FBT001 - a parameter set
    request = write_registers_request(1, 5, [7], multiple=multiple)
    framing = TcpFraming()
    own = struct.unpack_from(">H", framing.frame(request))[0]
    wrong = request.head[:2] + bytes([request.head[2] ^ 1]) + request.head[3:]
    assert fed(framing, as_tcp(own, 1, wrong), []) == []
    assert fed(framing, as_tcp(own, 1, request.head), []) == [request.head]
