from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client import ModbusTcpClient

from simulators.plant.points import Kind, Order, PlantPoint, Table, from_registers, to_raw, to_registers, to_value

CODES = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}
FLOATS = {"float32": "f", "float64": "d"}


def point_of(kind: str, **keys: Any) -> PlantPoint:
    return PlantPoint("p", Table.INPUT, 0, Kind(kind), "a point", **keys)


def bounds(kind: str) -> tuple[int, int]:
    bits = 8 * struct.calcsize(f">{CODES[kind]}")
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind.startswith("int") else (0, 2**bits - 1)


integers = st.sampled_from(sorted(CODES)).flatmap(lambda kind: st.tuples(st.just(kind), st.integers(*bounds(kind))))
floats = st.one_of(
    st.tuples(st.just("float32"), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just("float64"), st.floats(allow_nan=False)),
)
orders = st.sampled_from(Order)


@given(integers | floats, orders, orders)
def test_registers_are_what_struct_says(typed: tuple[str, float], byte_order: Order, word_order: Order) -> None:
    kind, raw = typed
    point = point_of(kind, byte_order=byte_order, word_order=word_order)
    registers = to_registers(point, raw)
    assert len(registers) == point.width
    # Undo the orders by hand: registers to the order of big-endian words, then each word's bytes.
    words = registers if word_order is Order.BIG else tuple(reversed(registers))
    packed = b"".join(struct.pack(">H" if byte_order is Order.BIG else "<H", word) for word in words)
    assert struct.unpack(f">{(CODES | FLOATS)[kind]}", packed)[0] == raw


@given(integers | floats, orders, orders)
def test_registers_round_trip(typed: tuple[str, float], byte_order: Order, word_order: Order) -> None:
    kind, raw = typed
    point = point_of(kind, byte_order=byte_order, word_order=word_order)
    assert from_registers(point, to_registers(point, raw)) == raw


@given(integers | floats, st.sampled_from(["big", "little"]))
def test_pymodbus_reads_the_same(typed: tuple[str, float], word_order: Any) -> None:
    kind, raw = typed
    registers = list(to_registers(point_of(kind, word_order=Order(word_order)), raw))
    datatype = ModbusTcpClient.DATATYPE[kind.upper()]
    assert ModbusTcpClient.convert_from_registers(registers, datatype, word_order=word_order) == raw


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16), orders)
def test_strings_round_trip_padded_with_nul(text: str, byte_order: Order) -> None:
    point = point_of("string", length=8, byte_order=byte_order)
    registers = to_registers(point, text)
    assert len(registers) == 8
    assert from_registers(point, registers) == text
    first = registers[0].to_bytes(2, byte_order.value)
    assert first == text.encode().ljust(2, b"\0")[:2]


def test_a_string_too_long_is_cut() -> None:
    assert to_raw(point_of("string", length=2), "abcdef") == "abcd"


@given(st.integers(0, 15), st.booleans())
def test_a_bit_stands_where_it_should(bit: int, on: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    point = point_of("bool", bit=bit)
    assert to_registers(point, on) == (int(on) * 2**bit,)
    assert from_registers(point, to_registers(point, on)) is on


scales = st.sampled_from([0.001, 0.01, 0.1, 0.5, 2.0])


@given(st.sampled_from(["int16", "uint16", "int32", "uint32"]), scales, st.sampled_from([None, 0.0, -40.0]), st.data())
def test_a_scaled_value_is_the_nearest_the_register_can_say(
    kind: str, scale: float, offset: float | None, data: st.DataObject
) -> None:
    point = point_of(kind, scale=scale, offset=offset)
    low, high = bounds(kind)
    quantity = data.draw(st.floats(low * scale, high * scale)) + (offset or 0.0)
    raw = to_raw(point, quantity)
    assert isinstance(raw, int)
    value = to_value(point, raw)
    assert value == raw * scale + (offset or 0.0)
    assert isinstance(value, float)
    assert abs(value - quantity) <= scale / 2 * (1 + 1e-6) + 1e-9 * abs(quantity)


@given(st.sampled_from(sorted(CODES)), st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_quantity_out_of_range_stays_at_its_end(kind: str, quantity: float) -> None:
    low, high = bounds(kind)
    raw = to_raw(point_of(kind), quantity)
    assert isinstance(raw, int)
    assert low <= raw <= high
    if low <= quantity <= high:
        assert abs(raw - quantity) <= 0.5
    else:
        assert raw == (low if quantity < low else high)


def test_large_integers_lose_nothing() -> None:
    assert to_raw(point_of("uint64"), 2**63 + 1) == 2**63 + 1


@given(st.floats(-1e30, 1e30))
def test_a_float32_is_what_a_client_will_read(quantity: float) -> None:
    raw = to_raw(point_of("float32"), quantity)
    assert isinstance(raw, float)
    assert struct.unpack("<f", struct.pack("<f", raw))[0] == raw
    assert math.isclose(raw, quantity, rel_tol=1e-6, abs_tol=1e-37)


@pytest.mark.parametrize(
    ("keys", "config"),
    [
        ({}, {"datatype": "uint16"}),
        ({"unit": "m", "scale": 0.1}, {"datatype": "uint16", "scale": 0.1, "unit": "m"}),
        ({"byte_order": Order.LITTLE}, {"datatype": "uint16", "byte_order": "little"}),
        ({"word_order": Order.LITTLE, "offset": 0.0}, {"datatype": "uint16", "word_order": "little", "offset": 0.0}),
    ],
)
def test_the_config_says_what_is_not_the_default(keys: dict[str, Any], config: dict[str, Any]) -> None:
    always = {"name": "p", "table": "input", "address": 0, "description": "a point"}
    assert point_of("uint16", **keys).to_config() == always | config


def test_the_config_of_bits_and_strings() -> None:
    coil = replace(point_of("bool"), table=Table.COIL)
    assert coil.to_config() == {
        "name": "p",
        "table": "coil",
        "address": 0,
        "datatype": "bool",
        "description": "a point",
    }
    assert point_of("bool", bit=3).to_config()["bit"] == 3
    assert point_of("string", length=4).to_config()["length"] == 4
