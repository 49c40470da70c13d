"""What the units of a bus hold: points in runs, the same in each unit, whose values say where and when they were read.

Registers are computed once for each step and served as slices of bytes, so that the bus costs little beside what it is
to measure.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from simulators.plant.pdu import ExceptionCode, RefusedError
from simulators.plant.points import Kind, Order, PlantPoint, Table, from_registers, to_raw, to_registers
from simulators.plant.schedule import Schedule, ScheduledFault
from simulators.plant.site import Content, Site
from simulators.plant.stamps import stamps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from simulators.ledger import Value
    from simulators.plant.faults import AnyFault
    from simulators.plant.memory import Block

_NEVER: Final = -1


@dataclass(frozen=True, slots=True)
class Run:
    """Points of one kind, one every `spacing` addresses; `value` is what all of them hold in place of stamps."""

    table: Table
    address: int
    count: int
    kind: Kind
    spacing: int
    byte_order: Order = Order.BIG
    word_order: Order = Order.BIG
    value: float | None = None
    writable: bool = False

    def points(self, unit_id: int) -> list[PlantPoint]:
        """The points of a unit, named by where they are."""
        return [
            PlantPoint(
                f"u{unit_id}/{self.table}/{address}",
                self.table,
                address,
                self.kind,
                f"{self.kind} at {self.table} {address}",
                byte_order=self.byte_order,
                word_order=self.word_order,
            )
            for address in self.addresses
        ]

    @property
    def addresses(self) -> range:
        """The first address of each point."""
        return range(self.address, self.address + self.count * self.spacing, self.spacing)

    @property
    def width(self) -> int:
        """How many addresses a point takes."""
        return PlantPoint("", self.table, 0, self.kind, "").width

    @property
    def end(self) -> int:
        """The first address after the run."""
        return self.addresses[-1] + self.width

    def words(self, unit_id: int, step: int) -> NDArray[np.uint16]:
        """The registers (or bits) of its points, a row each."""
        if self.value is not None:
            point = self.points(unit_id)[0]
            return np.array([to_registers(point, to_raw(point, self.value))] * self.count, np.uint16)
        values = stamps(self.kind, unit_id, self.table, np.array(self.addresses, np.uint64), step)
        if self.kind is Kind.BOOL:
            return values.astype(np.uint16).reshape(self.count, 1)
        order = ">u2" if self.byte_order is Order.BIG else "<u2"
        words = np.frombuffer(values.tobytes(), order).reshape(self.count, self.width).astype(np.uint16)
        return words if self.word_order is Order.BIG else words[:, ::-1]


class Segment:
    """A run of addresses that a device answers for, and the runs of points in it."""

    def __init__(self, table: Table, runs: Sequence[Run]) -> None:
        self.table, self.runs = table, runs
        self.start, self.end = runs[0].address, max(run.end for run in runs)

    def image(self, unit_id: int, step: int, written: Mapping[int, int]) -> bytes:
        """Its registers as they travel, two bytes each, or its bits, a byte each."""
        image = np.zeros(self.end - self.start, np.uint16)
        for run in self.runs:
            words = run.words(unit_id, step)
            first = np.array(run.addresses) - self.start
            for place in range(run.width):
                image[first + place] = words[:, place]
        for address, word in written.items():
            if self.start <= address < self.end:
                image[address - self.start] = word
        return image.astype("u1" if self.table.of_bits else ">u2").tobytes()


def segments(runs: Iterable[Run], hole: int) -> dict[Table, list[Segment]]:
    """The addresses of each table that are answered: holes of up to `hole` between points read as zero."""
    found: dict[Table, list[Segment]] = {table: [] for table in Table}
    for table in Table:
        together: list[Run] = []
        for run in sorted((run for run in runs if run.table is table), key=lambda run: run.address):
            if together and run.address - max(one.end for one in together) > hole:
                found[table].append(Segment(table, together))
                together = []
            together.append(run)
        if together:
            found[table].append(Segment(table, together))
    return found


class Bus(Site):
    """Many units that are alike; what is written to one stays."""

    def __init__(
        self,
        unit_ids: Iterable[int],
        runs: Sequence[Run],
        faults: Iterable[AnyFault] = (),
        *,
        step_s: float,
        hole: int,
        notes: bool = False,
    ) -> None:
        self._unit_ids = dict.fromkeys(unit_ids)
        self._runs, self._notes = runs, notes
        self._segments = segments(runs, hole)
        self._starts = {table: [segment.start for segment in found] for table, found in self._segments.items()}
        self._writable = {
            (run.table, address + place)
            for run in runs
            if run.writable
            for address in run.addresses
            for place in range(run.width)
        }
        self._schedule = Schedule(faults, step_s)
        self._step = 0
        self._images: dict[tuple[int, Table, int], tuple[int, bytes]] = {}
        self._written: dict[tuple[int, Table], dict[int, int]] = {}
        self._points = {unit_id: [p for run in runs for p in run.points(unit_id)] for unit_id in self._unit_ids}

    @property
    def step(self) -> int:
        """The step it is at."""
        return self._step

    @property
    def active(self) -> tuple[ScheduledFault, ...]:
        """The faults that act at this step."""
        return self._schedule.active

    @property
    def unit_ids(self) -> Collection[int]:
        """The units that are there."""
        return self._unit_ids.keys()

    @property
    def points(self) -> Mapping[int, Sequence[PlantPoint]]:
        """Every unit's points."""
        return self._points

    def move_to(self, step: int) -> tuple[list[ScheduledFault], list[ScheduledFault]]:
        """Move on to a step; the faults that started and ended on the way."""
        self._step = max(step, self._step)
        return self._schedule.move_to(self._step)

    def inject(self, fault: AnyFault) -> ScheduledFault:
        """Put in a fault by hand; its start counts from now."""
        return self._schedule.add(fault, self._step)

    def content(self, block: Block) -> Content:
        """The answer to a read; raises RefusedError for addresses that are none of a unit's."""
        table, number = block.table, bisect_right(self._starts[block.table], block.address) - 1
        if number < 0 or block.end > (segment := self._segments[table][number]).end:
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        image = self._image(block.unit_id, segment, number)
        first = block.address - segment.start
        if table.of_bits:
            bits = image[first : first + block.count]
            packed = np.packbits(np.frombuffer(bits, np.uint8), bitorder="little").tobytes()
            return Content(packed, self._values(block, bits))
        data = image[2 * first : 2 * (first + block.count)]
        return Content(data, self._values(block, np.frombuffer(data, ">u2").tolist()) if self._notes else {})

    def write(self, block: Block, words: Sequence[int]) -> dict[str, Value]:
        """Keep what is written; raises RefusedError unless all of it can be."""
        addresses = range(block.address, block.end)
        if not all((block.table, address) in self._writable for address in addresses):
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        self._written.setdefault((block.unit_id, block.table), {}).update(zip(addresses, words, strict=True))
        self._images.clear()
        return self._decoded(block, words)

    def names(self, unit_id: int, block: Block | None = None) -> list[str]:
        """The points of a unit, or those that lie wholly in a block of it; none unless they are noted."""
        if not self._notes:
            return []
        return [point.name for point in self._points[unit_id] if block is None or block.covers(point)]

    def _image(self, unit_id: int, segment: Segment, number: int) -> bytes:
        key = unit_id, segment.table, number
        step, image = self._images.get(key, (_NEVER, b""))
        if step != self._step:
            image = segment.image(unit_id, self._step, self._written.get((unit_id, segment.table), {}))
            self._images[key] = self._step, image
        return image

    def _values(self, block: Block, words: Sequence[int]) -> dict[str, Value]:
        return self._decoded(block, words) if self._notes else {}

    def _decoded(self, block: Block, words: Sequence[int]) -> dict[str, Value]:
        return {
            point.name: from_registers(point, words[point.address - block.address : point.end - block.address])
            for point in self._points[block.unit_id]
            if block.covers(point)
        }
