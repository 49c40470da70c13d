"""Values that say where and when they were read: a wrong, stale or misplaced one is known for what it is. No I/O.

A 64-bit value holds unit, table, address and step themselves; smaller ones are drawn from the four by a hash, so
that whoever knows where and about when it was read can tell whether it is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from simulators.plant.points import Kind, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulators.ledger import Value

STEPS: Final = 1 << 24
"""Steps after which stamps begin anew."""

_TABLES: Final = {table: number for number, table in enumerate(Table)}
_WHOLE: Final = frozenset({Kind.INT64, Kind.UINT64, Kind.FLOAT64})
_DTYPES: Final = {
    Kind.BOOL: "u1",
    Kind.INT16: ">i2",
    Kind.UINT16: ">u2",
    Kind.INT32: ">i4",
    Kind.UINT32: ">u4",
    Kind.INT64: ">i8",
    Kind.UINT64: ">u8",
    Kind.FLOAT32: ">f4",
    Kind.FLOAT64: ">f8",
}
# Odd numbers of 64 bits with ones and zeros well mixed, as of splitmix64.
_PLACE, _STEP, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def stamps(kind: Kind, unit_id: int, table: Table, addresses: NDArray[np.uint64], step: int) -> NDArray[Any]:
    """The values of points of one kind at their first addresses, big-endian as they travel."""
    places = addresses + np.uint64((unit_id << 2 | _TABLES[table]) << 16)
    if kind in _WHOLE:
        # 50 bits: a float64 holds them exactly.
        return ((places << np.uint64(24)) + np.uint64(step % STEPS)).astype(_DTYPES[kind])
    return _drawn(kind, places, step).astype(_DTYPES[kind])


def _drawn(kind: Kind, places: NDArray[np.uint64], step: int) -> NDArray[Any]:
    mixed: NDArray[np.uint64] = places * _PLACE + np.full_like(places, step % STEPS) * _STEP
    mixed = (mixed ^ mixed >> np.uint64(32)) * _MIX
    drawn: NDArray[Any]
    match kind:
        case Kind.BOOL:
            drawn = mixed >> np.uint64(63)
        case Kind.FLOAT32:
            # 24 bits, which a float32 holds exactly, as something between 0 and 65536.
            drawn = (mixed >> np.uint64(40)) / 256.0
        case Kind.INT16 | Kind.UINT16:
            drawn = (mixed >> np.uint64(48)).astype(np.uint16).astype(np.int16 if kind is Kind.INT16 else np.uint16)
        case _:
            drawn = (mixed >> np.uint64(32)).astype(np.uint32).astype(np.int32 if kind is Kind.INT32 else np.uint32)
    return drawn


def stamp(kind: Kind, unit_id: int, table: Table, address: int, step: int) -> Value:
    """The value of one point."""
    found: Value = stamps(kind, unit_id, table, np.array([address], np.uint64), step)[0].item()
    return bool(found) if kind is Kind.BOOL else found


def describe(value: float) -> str:
    """Where and when a 64-bit value was read, for a person."""
    whole = int(value)
    place, table = whole >> 24, list(Table)[(whole >> 40) & 3]
    return f"unit {place >> 18} {table} {place & 0xFFFF} step {whole & STEPS - 1}"
