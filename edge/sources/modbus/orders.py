"""In which order a value's bytes stand in its registers. No I/O.

`ByteOrder` is the order of the two bytes in a register, `WordOrder` that of the registers in a value. With A the most
significant byte of a 32-bit value, big and big is ABCD, as the Modbus specification draws it; big and little is CDAB,
as in many PLCs; little and big is BADC; little and little is DCBA. For 64 bits there are two orders more, those of
devices that put two 32-bit halves together:

    big             ABCDEFGH
    little          GHEFCDAB
    big-swapped     CDABGHEF    the high half first, in each half the low register first
    little-swapped  EFGHABCD    the low half first, in each half the high register first
"""

from __future__ import annotations

from typing import Final, Literal

ByteOrder = Literal["big", "little"]
WordOrder = Literal["big", "little", "big-swapped", "little-swapped"]

# Register i of a value, 0 the most significant, stands at i ^ swap: bit 0 swaps neighbours, bit 1 the halves of 64.
_SWAPS: Final = {"big": 0b00, "little": 0b11, "big-swapped": 0b01, "little-swapped": 0b10}


def places(registers: int, byte_order: ByteOrder, word_order: WordOrder) -> tuple[int, ...]:
    """For each byte of a number of 1, 2 or 4 registers, the most significant first, where it stands among them.

    Each order undoes itself, so the same places turn a number into its registers.
    """
    swap = _SWAPS[word_order] & (registers - 1)
    return tuple(2 * (word ^ swap) + byte for word in range(registers) for byte in _in_register(byte_order))


def text_places(registers: int, byte_order: ByteOrder) -> tuple[int, ...]:
    """The same for a text of any number of registers; these follow each other as its letters do."""
    return tuple(2 * word + byte for word in range(registers) for byte in _in_register(byte_order))


def reordered(raw: bytes, order: tuple[int, ...]) -> bytes:
    """The bytes in another order."""
    return bytes([raw[place] for place in order])


def _in_register(byte_order: ByteOrder) -> tuple[int, int]:
    return (0, 1) if byte_order == "big" else (1, 0)
