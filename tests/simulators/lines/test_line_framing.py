from __future__ import annotations

import struct
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from simulators.plant.framing import Frame, NoModbusError, RtuFraming, TcpFraming, crc16
from simulators.plant.memory import Block
from simulators.plant.pdu import RefusedError, Write, pack_words, parse_request
from simulators.plant.points import Table

reads = st.builds(
    lambda function, address, count: struct.pack(">BHH", function, address, count),
    st.integers(1, 4),
    st.integers(0, 0xFFFF),
    st.integers(1, 125),
)
writes = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=123).map(
    lambda words: struct.pack(f">BHHB{len(words)}H", 16, 5, len(words), 2 * len(words), *words)
)
frames = st.builds(Frame, st.integers(0, 255), reads | writes, st.just(0))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[low:high] for low, high in pairwise(edges)]


@given(data=st.binary(max_size=300))
def test_the_checksum_is_that_of_pymodbus(data: bytes) -> None:
    assert crc16(data).to_bytes(2, "little") == FramerRTU.compute_CRC(data).to_bytes(2, "big")


@pytest.mark.parametrize("framing", [TcpFraming, RtuFraming])
@given(sent=st.lists(frames, max_size=6), cuts=st.lists(st.integers(0, 2000), max_size=10))
def test_frames_come_out_as_they_went_in_however_they_are_torn(
    framing: type[TcpFraming | RtuFraming], sent: list[Frame], cuts: list[int]
) -> None:
    numbered = [frame._replace(transaction=n) if framing is TcpFraming else frame for n, frame in enumerate(sent)]
    data = b"".join(framing().build(frame) for frame in numbered)
    taking = framing()
    assert [frame for piece in pieces(data, cuts) for frame in taking.take(piece, 0.0)] == numbered


@given(junk=st.binary(min_size=1, max_size=40), sent=frames)
def test_rtu_finds_back_after_a_silence(junk: bytes, sent: Frame) -> None:
    framing = RtuFraming(silence_s=0.05)
    framing.take(junk, 0.0)
    assert framing.take(RtuFraming().build(sent), 0.1) == [sent]


def test_rtu_keeps_little_of_what_is_none() -> None:
    framing = RtuFraming()
    for _ in range(100):
        framing.take(b"\x55" * 100, 0.0)
    assert len(framing._buffer) <= 256


def test_a_function_of_unknown_length_is_whole_when_its_checksum_says_so() -> None:
    asked = Frame(1, b"\x2b\x0e\x01\x00")
    framing = RtuFraming()
    data = framing.build(asked)
    assert framing.take(data[:4], 0.0) == []
    assert framing.take(data[4:], 0.0) == [asked]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\0\1\0\0\0\1\1\1", b"\0\1\0\0\xff\xff\1\4"])
def test_what_is_no_modbus_tcp_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(NoModbusError):
        TcpFraming().take(data, 0.0)


def test_requests_are_what_they_ask() -> None:
    assert parse_request(7, bytes([4, 0, 10, 0, 3])) == Block(7, Table.INPUT, 10, 3)
    assert parse_request(7, bytes([5, 0, 1, 0xFF, 0])) == Write(
        Block(7, Table.COIL, 1, 1), (1,), bytes([5, 0, 1, 255, 0])
    )
    coils = parse_request(7, bytes([15, 0, 1, 0, 3, 1, 0b101]))
    assert coils == Write(Block(7, Table.COIL, 1, 3), (1, 0, 1), bytes([15, 0, 1, 0, 3]))
    registers = parse_request(7, bytes([16, 0, 1, 0, 1, 2, 0x12, 0x34]))
    assert registers == Write(Block(7, Table.HOLDING, 1, 1), (0x1234,), bytes([16, 0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        ([1, 0, 0, 7, 209], 3),  # 2001 coils
        ([3, 0xFF, 0xFF, 0, 2], 2),  # past the last address
        ([3, 0, 0, 0], 3),
        ([5, 0, 0, 1, 0], 3),  # neither on nor off
        ([6, 0, 0], 3),
        ([15, 0, 0, 0, 9, 1, 0], 3),  # nine bits in a byte
        ([16, 0, 0], 3),
        ([16, 0, 0, 0, 0, 0], 3),
        ([16, 0xFF, 0xFF, 0, 2, 4, 0, 0, 0, 0], 2),
        ([43, 14, 1, 0], 1),
    ],
)
def test_what_cannot_be_asked_is_refused(pdu: list[int], code: int) -> None:
    with pytest.raises(RefusedError) as refused:
        parse_request(1, bytes(pdu))
    assert refused.value.code == code


@given(st.binary(min_size=1, max_size=253))
def test_any_request_is_parsed_or_refused(pdu: bytes) -> None:
    with suppress(RefusedError):
        parse_request(1, pdu)


def test_bits_are_packed_lowest_first() -> None:
    assert pack_words(Table.COIL, [1, 0, 1, 0, 0, 0, 0, 0, 1]) == b"\x05\x01"
    assert pack_words(Table.HOLDING, [0x1234, 5]) == b"\x12\x34\0\5"
