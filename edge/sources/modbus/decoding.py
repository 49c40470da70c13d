"""A block's answer becomes readings: what can be worked out once is, so that a poll only unpacks and converts. No I/O.

What a request answers is one `struct` of distinct fields. Where all of them stand in their natural order the bytes of
the answer are unpacked as they are, with the unused ones skipped; else they are put in order first, all at once.
"""

from __future__ import annotations

import struct
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from contract.sparkplug import Quality
from edge.reading import Reading
from edge.sources.modbus.orders import places
from edge.sources.modbus.points import BIT_TABLES, ValueFault
from edge.sources.modbus.values import byte_places, converter, exponent_converter, field_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from contract.datatypes import Value
    from edge.sources.modbus.points import PointConfig

    Unpack = Callable[[bytes], Iterable[Any]]

# Reading(...) itself goes through a Python function: this makes the same tuple, of all fields, in a third of the time.
_reading: Final = partial(tuple.__new__, Reading)


class _Field(NamedTuple):
    """Some bytes of an answer that are unpacked together; `places` is their order among themselves."""

    at: int  # bytes from the start of the answer
    places: tuple[int, ...]
    code: str


class Decoder:
    """Readings of the points of one block, from the bytes that answered its request."""

    def __init__(self, points: Sequence[PointConfig], address: int, count: int) -> None:
        self._points = points
        self._names = [point.name for point in points]
        self._types = [point.metric_type for point in points]
        self._good = [Quality.GOOD] * len(points)
        # Position of the point, of its exponent among the fields where it has one, and what makes its value.
        self._conversions: list[tuple[int, Callable[[Any], Value]]] = []
        self._raised: list[tuple[int, int, Callable[[Any, int], Value]]] = []
        if points[0].table in BIT_TABLES:
            self.size_bytes = -(-count // 8)
            self._unpack: Unpack = _bits(points, address)
        else:
            self.size_bytes = 2 * count
            self._unpack = self._compile(points, address)

    def readings(self, data: bytes, at_ms: int) -> tuple[list[Reading], list[tuple[PointConfig, str]]]:
        """A reading for each point, in their order, and for those without value what is the matter.

        `data` is what follows the byte count in the answer: exactly `size_bytes`.
        """
        values, faults = self.decode(data)
        qualities = self._good
        if faults:
            qualities = [*self._good]
            for i, _ in faults:
                qualities[i] = Quality.BAD
        rows = zip(self._names, self._types, values, repeat(at_ms), qualities, repeat(None), strict=False)
        return list(map(_reading, rows)), [(self._points[i], reason) for i, reason in faults]

    def decode(self, data: bytes) -> tuple[list[Value], list[tuple[int, str]]]:
        """The points' values, None for those without, and the positions of these with what is the matter."""
        fields = [*self._unpack(data)]
        values: list[Any] = fields[: len(self._points)]
        faults: list[tuple[int, str]] = []
        for i, convert in self._conversions:
            try:
                values[i] = convert(values[i])
            except ValueFault as exc:
                values[i] = None
                faults.append((i, str(exc)))
        for i, exponent, raise_to in self._raised:
            try:
                values[i] = raise_to(values[i], fields[exponent])
            except ValueFault as exc:
                values[i] = None
                faults.append((i, str(exc)))
        return values, faults

    def _compile(self, points: Sequence[PointConfig], address: int) -> Unpack:
        fields = [_Field(2 * (point.address - address), byte_places(point), field_code(point)) for point in points]
        for i, point in enumerate(points):
            if point.exponent_at is not None:
                fields.append(_Field(2 * (point.exponent_at - address), places(1, point.byte_order, "big"), "h"))
                self._raised.append((i, len(fields) - 1, exponent_converter(point)))
            elif (convert := converter(point)) is not None:
                self._conversions.append((i, convert))
        return _unpacker(fields, self.size_bytes)


def _bits(points: Sequence[PointConfig], address: int) -> Unpack:
    """What finds the points' bits: the first is the lowest of the first byte (Modbus, 6.1)."""
    at = [divmod(point.address - address, 8) for point in points]
    masks = [(byte, 1 << bit) for byte, bit in at]

    def unpack(data: bytes) -> list[bool]:
        return [data[byte] & mask != 0 for byte, mask in masks]

    return unpack


def _unpacker(fields: Sequence[_Field], size_bytes: int) -> Unpack:
    """What makes the fields, in their order, of an answer."""
    distinct = sorted(set(fields))
    order = [distinct.index(field) for field in fields]
    unpack = _in_place(distinct, size_bytes) or _put_in_order(distinct)
    if order == list(range(len(order))):
        return unpack
    if len(order) == 1:
        return unpack
    pick = itemgetter(*order)
    return lambda data: pick(unpack(data))


def _in_place(fields: Sequence[_Field], size_bytes: int) -> Callable[[bytes], tuple[Any, ...]] | None:
    """What unpacks fields that stand one behind the other in their natural order; None where they do not."""
    code, end = ">", 0
    for field in fields:
        if field.at < end or field.places != tuple(range(len(field.places))):
            return None
        code += f"{field.at - end}x" * (field.at > end) + field.code
        end = field.at + len(field.places)
    return struct.Struct(code + f"{size_bytes - end}x" * (size_bytes > end)).unpack


def _put_in_order(fields: Sequence[_Field]) -> Callable[[bytes], tuple[Any, ...]]:
    """What unpacks fields that stand anyhow: their bytes are picked one by one."""
    pick = itemgetter(*(field.at + place for field in fields for place in field.places))
    unpack = struct.Struct(">" + "".join(field.code for field in fields)).unpack
    return lambda data: unpack(bytes(pick(data)))
