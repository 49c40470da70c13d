"""Points: every type in every order against letters drawn by hand, what is no value, and writing as the inverse."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config import ConfigError, parse_config
from contract.datatypes import DataType
from edge.lane import Lane
from edge.sources.modbus.points import PointConfig, ValueFault
from edge.sources.modbus.values import decode_registers
from edge.sources.modbus.writing import NotAllowed, encode_bit, encode_registers

CODES = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
# How the bytes A (most significant), B, ... of a number stand on the wire: (bytes, byte_order, word_order) -> letters.
LETTERS = {
    (2, "big", "big"): "AB",
    (2, "big", "little"): "AB",
    (2, "little", "big"): "BA",
    (2, "little", "little"): "BA",
    (4, "big", "big"): "ABCD",
    (4, "big", "little"): "CDAB",
    (4, "little", "big"): "BADC",
    (4, "little", "little"): "DCBA",
    (8, "big", "big"): "ABCDEFGH",
    (8, "big", "little"): "GHEFCDAB",
    (8, "little", "big"): "BADCFEHG",
    (8, "little", "little"): "HGFEDCBA",
    (8, "big", "big-swapped"): "CDABGHEF",
    (8, "little", "big-swapped"): "DCBAHGFE",
    (8, "big", "little-swapped"): "EFGHABCD",
    (8, "little", "little-swapped"): "FEHGBADC",
}
LAYOUTS = st.sampled_from(sorted(LETTERS))


def point(**fields: Any) -> PointConfig:
    return PointConfig.model_validate({"name": "p", "table": "holding", "address": 0, "datatype": "int16"} | fields)


def on_the_wire(number: bytes, letters: str) -> list[int]:
    """The registers of a device that keeps a number of big-endian bytes in this order."""
    wire = bytes(number["ABCDEFGH".index(letter)] for letter in letters)
    return [high << 8 | low for high, low in zip(wire[::2], wire[1::2], strict=True)]


@st.composite
def numbers(draw: st.DrawFn) -> tuple[PointConfig, list[int], int | float]:
    """A point of any datatype in any order, its registers, and the number that they hold."""
    layout = draw(LAYOUTS)
    of_this_size = [name for name, code in CODES.items() if struct.calcsize(code) == layout[0]]
    datatype = draw(st.sampled_from(of_this_size))
    number = draw(st.integers(0, 2 ** (8 * layout[0]) - 1)).to_bytes(layout[0], "big")
    (value,) = struct.unpack(">" + CODES[datatype], number)
    where = point(datatype=datatype, byte_order=layout[1], word_order=layout[2])
    return where, on_the_wire(number, LETTERS[layout]), value


@given(drawn=numbers())
def test_every_number_is_decoded_in_every_order(drawn: tuple[PointConfig, list[int], int | float]) -> None:
    where, registers, number = drawn
    assert len(registers) == where.size
    if not math.isfinite(number):
        with pytest.raises(ValueFault, match="not a number"):
            decode_registers(where, registers)
        return
    decoded = decode_registers(where, registers)
    assert decoded == number
    assert type(decoded) is type(number)


@given(drawn=numbers(), scale=st.none() | st.floats(-1e6, 1e6), offset=st.none() | st.floats(-1e6, 1e6))
def test_a_scaled_number_is_a_double_computed_in_one_way(
    drawn: tuple[PointConfig, list[int], int | float], scale: float | None, offset: float | None
) -> None:
    unscaled, registers, number = drawn
    if scale == 0 or (scale is None and offset is None):
        return
    where = point(**unscaled.model_dump() | {"scale": scale, "offset": offset})
    assert where.metric_type == DataType.DOUBLE
    expected = number * (1.0 if scale is None else scale) + (0.0 if offset is None else offset)
    if not math.isfinite(expected):
        with pytest.raises(ValueFault):
            decode_registers(where, registers)
    else:
        assert decode_registers(where, registers) == expected


@given(number=st.integers(0, 99_999_999), layout=LAYOUTS)
def test_bcd_in_every_order(number: int, layout: tuple[int, str, str]) -> None:
    size, byte_order, word_order = layout
    if size > 4:
        return
    digits = f"{number % 10 ** (2 * size):0{2 * size}d}"
    where = point(datatype=f"bcd{8 * size}", byte_order=byte_order, word_order=word_order)
    assert decode_registers(where, on_the_wire(bytes.fromhex(digits), LETTERS[layout])) == int(digits)


@given(bits=st.integers(0, 2**64 - 1), ends=st.tuples(st.integers(0, 63), st.integers(0, 63)), layout=LAYOUTS)
def test_a_bit_field_is_the_number_between_its_ends(
    bits: int, ends: tuple[int, int], layout: tuple[int, str, str]
) -> None:
    size, byte_order, word_order = layout
    number, (first, last) = bits % 2 ** (8 * size), sorted(end % (8 * size) for end in ends)
    where = point(datatype=f"uint{8 * size}", bits=[first, last], byte_order=byte_order, word_order=word_order)
    in_text = f"{number:0{8 * size}b}"[::-1][first : last + 1][::-1]
    assert decode_registers(where, on_the_wire(number.to_bytes(size, "big"), LETTERS[layout])) == int(in_text, 2)


@given(
    text=st.text(max_size=20).filter(lambda t: "\0" not in t and t == t.strip(" ")),
    byte_order=st.sampled_from(["big", "little"]),
    padding=st.sampled_from([b"\0", b" "]),
)
def test_strings_lose_their_padding(text: str, byte_order: str, padding: bytes) -> None:
    padded = text.encode().ljust(100, padding)
    registers = [
        int.from_bytes(padded[i : i + 2], "big" if byte_order == "big" else "little") for i in range(0, 100, 2)
    ]
    where = point(datatype="string", length=50, byte_order=byte_order, write={})
    assert decode_registers(where, registers) == text
    assert decode_registers(where, encode_registers(where, text)) == text


@given(register=st.integers(0, 0xFFFF), bit=st.integers(0, 15))
def test_a_bit_of_a_register(register: int, bit: int) -> None:
    assert decode_registers(point(datatype="bool", bit=bit), [register]) is bool(register // 2**bit % 2)


FLOAT32_NAN, FLOAT32_INFINITY, FLOAT64_INFINITY = [0x7FC0, 0], [0xFF80, 0], [0x7FF0, 0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "registers", "words"),
    [
        ({"datatype": "float32"}, FLOAT32_NAN, "not a number"),
        ({"datatype": "float32", "min": 0, "max": 9}, FLOAT32_INFINITY, "not a number"),
        ({"datatype": "float64", "scale": 2}, FLOAT64_INFINITY, "not a number"),
        ({"datatype": "float32", "not_available": [-9999]}, [0xC61C, 0x3C00], "not available"),
        ({"datatype": "int16", "not_available": [0x8000]}, [0x8000], "not available"),
        ({"datatype": "int16", "not_available": [-32_768], "scale": 0.1}, [0x8000], "not available"),
        ({"datatype": "uint16", "not_available": [0xFFFE, -1]}, [0xFFFF], "not available"),
        ({"datatype": "int32", "not_available": [0x80000000]}, [0x8000, 0], "not available"),
        ({"datatype": "uint64", "not_available": [2**64 - 1]}, [0xFFFF] * 4, "not available"),
        ({"datatype": "uint16", "bits": [4, 7], "not_available": [15]}, [0x12F3], "not available"),
        ({"datatype": "bcd16", "not_available": [0x9999]}, [0x9999], "not available"),
        ({"datatype": "uint16", "texts": {1: "on"}, "not_available": [0xFF]}, [0xFF], "not available"),
        ({"datatype": "bcd16"}, [0x12A4], "not BCD"),
        ({"datatype": "string", "length": 1}, [0xFFFE], "not UTF-8"),
        ({"datatype": "int16", "min": -40, "unit": "°C"}, [0xFFD7], "is below the plausible -40 °C"),
        ({"datatype": "int16", "scale": 0.1, "max": 60}, [601], "is above the plausible 60"),
    ],
)
def test_what_is_no_value_is_a_fault(fields: dict[str, Any], registers: list[int], words: str) -> None:
    with pytest.raises(ValueFault, match=words):
        decode_registers(point(**fields), registers)


@pytest.mark.parametrize(
    ("fields", "registers", "value"),
    [
        ({"min": -40, "max": 60}, [0xFFD8], -40),
        ({"min": -40, "max": 60}, [60], 60),
        ({"not_available": [0x8000]}, [0x7FFF], 32_767),
        ({"datatype": "uint16", "texts": {0: "off", 1: "running"}}, [1], "running"),
        ({"datatype": "uint16", "texts": {0: "off", 1: "running"}}, [7], "7"),
        ({"datatype": "uint16", "bits": [8, 9], "texts": {2: "auto"}}, [0xFEFF], "auto"),
    ],
)
def test_what_is_a_value(fields: dict[str, Any], registers: list[int], value: object) -> None:
    assert decode_registers(point(**fields), registers) == value


@given(raw=st.integers(-32_768, 32_767), exponent=st.integers(-10, 10))
def test_an_exponent_gives_the_nearest_number_to_the_decimal_one(raw: int, exponent: int) -> None:
    assert decode_registers(point(exponent_at=1), [raw % 65_536], exponent) == pytest.approx(
        float(f"{raw}e{exponent}"), rel=1e-15
    )
    assert decode_registers(point(exponent_at=1), [2301], -1) == 230.1


@pytest.mark.parametrize("exponent", [-32_768, 11])
def test_an_exponent_that_is_none_is_a_fault(exponent: int) -> None:
    with pytest.raises(ValueFault, match="-10 to 10"):
        decode_registers(point(exponent_at=1), [2301], exponent)


@pytest.mark.parametrize(
    ("fields", "metric_type"),
    [
        ({"datatype": "int16"}, DataType.INT16),
        ({"datatype": "int64", "scale": 0.1}, DataType.DOUBLE),
        ({"datatype": "float32"}, DataType.FLOAT),
        ({"datatype": "float32", "offset": 1}, DataType.DOUBLE),
        ({"datatype": "int16", "exponent_at": 7}, DataType.DOUBLE),
        ({"datatype": "bcd32"}, DataType.UINT32),
        ({"datatype": "uint32", "bits": [0, 3]}, DataType.UINT32),
        ({"datatype": "uint16", "texts": {0: "off"}}, DataType.STRING),
        ({"datatype": "bool", "bit": 1}, DataType.BOOLEAN),
    ],
)
def test_metric_types(fields: dict[str, Any], metric_type: DataType) -> None:
    assert point(**fields).metric().datatype == metric_type


def test_the_birth_tells_lane_and_whether_it_can_be_written() -> None:
    plain, special = point().metric(), point(alarm=True, write={"min": 0, "max": 1}).metric()
    assert (plain.lane, plain.writable) == (Lane.LIVE, False)
    assert (special.lane, special.writable) == (Lane.ALARM, True)


@given(drawn=numbers())
def test_what_is_written_is_what_is_read(drawn: tuple[PointConfig, list[int], int | float]) -> None:
    readable, registers, number = drawn
    if not math.isfinite(number):
        return
    low, high = readable.raw_range
    where = point(**readable.model_dump() | {"write": {"min": low, "max": high}})
    assert list(encode_registers(where, number)) == registers or number == 0  # of zeros there are two
    assert decode_registers(where, encode_registers(where, number)) == number


@given(raw=st.integers(-(2**31), 2**31 - 1), scale=st.sampled_from([0.1, 0.01, -0.5, 3]), offset=st.integers(-99, 99))
def test_a_scaled_value_is_written_as_the_raw_number_it_came_from(raw: int, scale: float, offset: int) -> None:
    registers = [raw >> 16 & 0xFFFF, raw & 0xFFFF]
    ends = sorted((-(2**31) * scale + offset, (2**31 - 1) * scale + offset))
    where = point(datatype="int32", scale=scale, offset=offset, write={"min": ends[0], "max": ends[1]})
    value = decode_registers(where, registers)
    assert list(encode_registers(where, value)) == registers


def test_bcd_and_texts_are_written_too() -> None:
    assert encode_registers(point(datatype="bcd32", write={"min": 0, "max": 99_999_999}), 1_234_567) == (0x0123, 0x4567)
    mode = point(datatype="uint16", texts={0: "off", 2: "auto"}, write={})
    assert encode_registers(mode, "auto") == (2,)
    month = point(datatype="bcd16", texts={12: "December"}, write={})
    assert encode_registers(month, "December") == (0x12,)
    assert encode_bit(point(table="coil", datatype="bool", write={}), True) is True  # noqa: FBT003 - a value, not a flag


@pytest.mark.parametrize(
    ("limits", "value", "raw"),
    [
        ((0, 50.06), 50.06, 500),
        ((0.05, 9), 0.05, 1),
        ((0, 0.3), 0.3, 3),
        ((0.3, 1), 0.3, 3),
        ((-50.06, 0), -50.06, -500),
    ],
)
def test_a_value_is_rounded_to_what_is_within_its_limits(limits: tuple[float, float], value: float, raw: int) -> None:
    written = point(scale=0.1, write={"min": limits[0], "max": limits[1]})
    assert encode_registers(written, value) == (raw & 0xFFFF,)


@pytest.mark.parametrize(
    ("fields", "value", "allowed"),
    [
        ({"scale": 10, "write": {"min": 1, "max": 9}}, 5, "1 to 9, and no number of the registers is within"),
        (
            {"datatype": "float32", "write": {"min": -999.9, "max": 9}, "not_available": [-999.9]},
            -999.9,
            "not available",
        ),
        ({}, 1, "nothing: it has no `write`"),
        ({"write": {"min": 0, "max": 50}, "unit": "Hz"}, 50.5, "found 50.5, allowed: 0 to 50 Hz"),
        ({"write": {"min": 0, "max": 50}}, -1, "0 to 50"),
        ({"write": {"min": 0, "max": 50}}, float("nan"), "0 to 50"),
        ({"write": {"min": 0, "max": 50}}, True, "0 to 50"),
        ({"write": {"min": 0, "max": 50}}, "12", "0 to 50"),
        ({"write": {"min": 0, "max": 50}}, None, "0 to 50"),
        ({"write": {"min": 0, "max": 50}}, 7.5, "whole numbers, 0 to 50"),
        ({"write": {"min": -9, "max": 9}, "not_available": [5]}, 5, "not available"),
        ({"datatype": "bcd16", "write": {"min": 0, "max": 9999}, "not_available": [0x9999]}, 9999, "not available"),
        ({"datatype": "uint16", "texts": {0: "off", 2: "auto"}, "write": {}}, "on", "allowed: off, auto"),
        ({"datatype": "string", "length": 2, "write": {}}, "hellö", "at most 4 bytes"),
    ],
)
def test_what_must_not_be_written_is_refused_with_what_may(fields: dict[str, Any], value: Any, allowed: str) -> None:
    with pytest.raises(NotAllowed, match=f"^p: .*{allowed}"):
        encode_registers(point(**fields), value)


@pytest.mark.parametrize(("fields", "value"), [({"write": {}}, 1), ({}, True)])
def test_a_coil_takes_true_and_false_if_it_may_be_written(fields: dict[str, Any], value: Any) -> None:
    with pytest.raises(NotAllowed):
        encode_bit(point(table="coil", datatype="bool", **fields), value)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"table": "coil"}, "can only be bool"),
        ({"table": "coil", "datatype": "bool", "bit": 1}, "leave out `bit`"),
        ({"datatype": "bool"}, "needs `bit`"),
        ({"bit": 3}, "`bit` is for a bool"),
        ({"datatype": "string"}, "needs `length`"),
        ({"length": 3}, "`length` is for a string"),
        ({"datatype": "string", "length": 2, "word_order": "little"}, "no word_order"),
        ({"datatype": "string", "length": 2, "scale": 2}, "no scale"),
        ({"datatype": "bool", "bit": 0, "min": 0}, "no min"),
        ({"datatype": "bool", "bit": 0, "texts": {0: "off"}}, "no texts"),
        ({"datatype": "uint32", "word_order": "big-swapped"}, "for 64 bits: allowed are big and little"),
        ({"datatype": "float64", "address": 65_534}, "the last one is 65535"),
        ({"exponent_at": 200}, "0 to 200 are 201 addresses: 125 are the most"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": 0}, "scale of 0"),
        ({"datatype": "int8"}, "datatype"),
        ({"bits": [0, 3]}, "`bits` is for a uint16"),
        ({"datatype": "uint16", "bits": [4, 16]}, "both 0 to 15"),
        ({"datatype": "uint32", "bits": [4, 3]}, "first not above last"),
        ({"min": 3, "max": 2}, "min 3 is above max 2"),
        ({"not_available": [0x10000]}, "0 to 0xffff"),
        ({"not_available": [0.5]}, "not a whole number"),
        ({"not_available": [float("inf")]}, "finite number|0 to 0xffff"),
        ({"datatype": "float32", "not_available": [1e39]}, "does not fit float32"),
        ({"texts": {0: "off"}, "scale": 2}, "without scale"),
        ({"texts": {40_000: "off"}}, "texts: 40000 does not fit int16: -32768 to 32767 do"),
        ({"table": "input", "write": {"min": 0, "max": 1}}, "only coil and holding"),
        ({"write": {"min": 0}}, "needs min and max"),
        ({"write": {"min": 2, "max": 1}}, "write.min 2 is above write.max 1"),
        ({"write": {"min": 0, "max": 40_000}}, "write.max 40000 does not fit int16: -32768 to 32767 do"),
        ({"write": {"min": -1, "max": 10}, "datatype": "uint16", "scale": 0.1}, "write.min -1 .*: 0 to 6553.5 do"),
        ({"datatype": "bool", "bit": 2, "write": {}}, "whole registers"),
        ({"datatype": "uint16", "texts": {0: "off"}, "write": {"min": 0, "max": 1}}, "has no min and max"),
        ({"datatype": "uint16", "texts": {0: "off", 1: "off"}, "write": {}}, "mean one number"),
        ({"exponent_at": 1, "write": {"min": 0, "max": 1}}, "exclude each other"),
    ],
)
def test_wrong_points(fields: dict[str, Any], complaint: str) -> None:
    document = {"name": "p", "table": "holding", "address": 0, "datatype": "int16"} | fields
    with pytest.raises(ConfigError, match=complaint):
        parse_config(document, PointConfig, "edge.yaml")
