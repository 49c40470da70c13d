"""Where the metrics of many payloads lie, found in all payloads at once: the first of each, then the second, and so on.

A Python step for each metric costs as much as storing its reading does. Where too few payloads go on to be worth
numpy's while, and where one is not as expected, such steps it is.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from stream.ingest.wire import NOT_PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from stream.ingest.wire import Reader

    Bools: TypeAlias = NDArray[np.bool_]
    Ints: TypeAlias = NDArray[np.int64]
    Names: TypeAlias = Mapping[bytes, int]

MAX_NAME_BYTES: Final = 127  # whose length takes one byte
# So many payloads that looking at one metric of each takes less than as many steps in Python.
FEWEST_AT_ONCE: Final = 48

# Protobuf's tags: field number << 3 | wire type.
_PAYLOAD_TIMESTAMP: Final = 0x08
_PAYLOAD_METRIC: Final = 0x12
_PAYLOAD_SEQ: Final = 0x18
_NAME: Final = 0x0A

_MORE: Final = 0x80  # in a varint: another byte follows
_MAX_VARINT_BYTES: Final = 8  # of those that are read here
# The lowest bytes of a word, by how many.
_LOWEST: Final = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the metrics of payloads lie, in the payloads' order, m of them.

    Offsets int64 [m]: `begin` of the metric's field in its payload, `named` behind its name, `end` behind itself.
    `name_no` int64 [m]: the number that its name was given, or NOT_PLAIN. `metrics` int64 [payloads]: how many each
    payload has, NOT_PLAIN where its own fields are not as expected; `times_ms` int64 [payloads]: its own time.
    `payload_no`, `place` int64 [m]: of which payload a metric is, and its place among all of that one.
    """

    begin: Ints
    named: Ints
    end: Ints
    name_no: Ints
    metrics: Ints
    times_ms: Ints
    payload_no: Ints
    place: Ints


def find_metrics(reader: Reader, ends: Iterable[int], names: Sequence[Names]) -> Layout:
    """Where the metrics of payloads lie that stand one behind the other, each up to its end.

    `names` gives, for each payload, the number of a metric's name.
    """
    end = np.fromiter(ends, np.int64, len(names))
    begin = np.append(0, end[:-1]) if len(end) else end
    times_ms, is_read, found = _side_by_side(reader, begin, end)
    places = array("q")
    for payload in np.flatnonzero(~is_read).tolist():
        before = len(places)
        time_ms = _walk(reader.data, payload, int(begin[payload]), int(end[payload]), places)
        if time_ms is None:
            del places[before:]
        is_read[payload], times_ms[payload] = time_ms is not None, time_ms or 0
    found.append(np.array(places, np.int64).reshape(-1, 4).T)
    return _layout(reader, names, times_ms, is_read, np.concatenate(found, axis=1))


def _side_by_side(reader: Reader, begin: Ints, end: Ints) -> tuple[Ints, Bools, list[Ints]]:
    """The times of payloads, which of them are read to their ends, and their metrics as `_walk` appends them.

    One field of every payload at a time.
    """
    times_ms, is_read = np.zeros(len(end), np.int64), begin == end
    found: list[Ints] = []
    going = np.flatnonzero(~is_read)
    at = begin[going]
    while len(going) >= FEWEST_AT_ONCE:
        tag, size, fields = reader.bytes[at], reader.bytes[at + 1].astype(np.int64), at + 2
        if (size >= _MORE).any():
            size, fields = reader.varint(at + 1)
        is_metric, is_time = tag == _PAYLOAD_METRIC, tag == _PAYLOAD_TIMESTAMP
        past = np.where(is_metric, fields + size, fields)
        times_ms[going[is_time]] = size[is_time]
        found.append(np.array((going, at, fields, past))[:, is_metric])
        # A field of another kind, and one that does not end in its payload, are left to `_walk`.
        is_expected = (is_metric | is_time | (tag == _PAYLOAD_SEQ)) & (past <= end[going])
        is_last = past == end[going]
        is_read[going[is_expected & is_last]] = True
        goes_on = is_expected & ~is_last
        going, at = going[goes_on], past[goes_on]
    return times_ms, is_read, [metrics[:, is_read[metrics[0]]] for metrics in found]


def _walk(data: bytes, payload: int, at: int, end: int, places: array[int]) -> int | None:
    """Read a payload's fields; its time, or None where something else than expected was met.

    Appends for each metric the payload's number, and where it begins, its own fields begin, and it ends.
    """
    time_ms = 0
    try:
        while at < end:
            begin, tag, size = at, data[at], data[at + 1]
            at += 2
            if size >= _MORE:
                size, at = _varint(data, at - 1)
            if tag == _PAYLOAD_METRIC:
                places.extend((payload, begin, at, at + size))
                at += size
            elif tag == _PAYLOAD_TIMESTAMP:
                time_ms = size
            elif tag != _PAYLOAD_SEQ:
                return None
    except IndexError:
        return None
    return time_ms if at == end else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends; raises IndexError when it is cut off, or longer than those that are read here."""
    number = 0
    for place in range(_MAX_VARINT_BYTES):
        byte = data[at + place]
        number |= (byte & ~_MORE) << 7 * place
        if byte < _MORE:
            return number, at + place + 1
    raise IndexError


def _layout(reader: Reader, names: Sequence[Names], times_ms: Ints, is_read: Bools, found: Ints) -> Layout:
    # Of 16 bits or less, which numpy sorts in linear time.
    order = np.argsort(found[0].astype(np.min_scalar_type(len(names))), kind="stable")
    payload_no, begin, fields, end = found[:, order]
    lengths = np.bincount(payload_no, minlength=len(names))
    place = np.arange(len(payload_no)) - (np.cumsum(lengths) - lengths)[payload_no]
    length = reader.bytes[fields + 1].astype(np.int64)
    named = fields + 2 + length
    has_name = (reader.bytes[fields] == _NAME) & (length <= MAX_NAME_BYTES) & (named < end)
    name_no = np.full(len(payload_no), NOT_PLAIN, np.int64)
    rows = np.flatnonzero(has_name)
    of_rows = _Names(reader, fields[rows] + 2, length[rows])
    name_no[rows] = of_rows.numbers(names, payload_no[rows], place[rows])
    return Layout(begin, named, end, name_no, np.where(is_read, lengths, NOT_PLAIN), times_ms, payload_no, place)


@dataclass(frozen=True, slots=True, eq=False)
class _Names:
    """The names of m metrics: where they begin and how long they are, int64 [m] each."""

    reader: Reader
    at: Ints
    length: Ints

    def numbers(self, known: Sequence[Names], payload_no: Ints, place: Ints) -> Ints:
        """The names' numbers, by what is known of each payload's.

        A device's payloads mostly have the same metrics in the same order: then a name is that of the first payload's
        metric at the same place, and only these are looked up.
        """
        devices: dict[int, int] = {}
        device_no = np.array([devices.setdefault(id(each), len(devices)) for each in known], np.int64)
        first = _first_alike(device_no[payload_no], place, len(devices))
        is_first = first == np.arange(len(first))
        is_same = self._equal(first)
        numbers = np.empty(len(first), np.int64)
        data = self.reader.data
        for row in np.flatnonzero(is_first | ~is_same).tolist():
            at = self.at[row]
            numbers[row] = known[payload_no[row]][data[at : at + self.length[row]]]
        return np.where(is_same, numbers[first], numbers)

    def _equal(self, other: Ints) -> Bools:
        """Which names are those of the metrics `other`, int64 [m]; eight bytes at a time."""
        words = self.reader.words
        is_equal: Bools = self.length == self.length[other]
        for offset in range(0, int(self.length.max(initial=0)), 8):
            rows = np.flatnonzero(is_equal & (self.length > offset))
            differ = words[self.at[rows] + offset] ^ words[self.at[other[rows]] + offset]
            is_equal[rows] = differ & _LOWEST[np.minimum(self.length[rows] - offset, 8)] == 0
        return is_equal


def _first_alike(device_no: Ints, place: Ints, devices: int) -> Ints:
    """Of each of m metrics the first one of its device at its place, int64 [m]; itself where places are too many."""
    count = len(place)
    first = np.arange(count)
    width = min(int(place.max(initial=0)) + 1, 4 * count // max(devices, 1))
    rows = np.flatnonzero(place < width)
    cell = device_no[rows] * width + place[rows]
    firsts = np.empty(devices * width, np.int64)
    firsts[cell[::-1]] = rows[::-1]  # of equal cells the first one is kept
    first[rows] = firsts[cell]
    return first
