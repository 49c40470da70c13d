"""Probing a line: which units it has, what can be read from them and how. It reads, and never writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edge.sources.modbus.faults import NoAnswer, NoConnection, Refusal
from edge.sources.modbus.framing import read_request
from edge.sources.modbus.points import BIT_TABLES, MAX_BITS, MAX_REGISTERS
from edge.sources.modbus.probe_search import (
    FindRanges,
    Ranges,
    Refused,
    find_largest,
    find_pause,
    find_units,
    is_alive,
)
from edge.sources.modbus.probe_value import Candidate, find_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge.sources.modbus.config import LineConfig
    from edge.sources.modbus.line import ModbusLine
    from edge.sources.modbus.points import Table
    from edge.sources.modbus.probe_search import Largest, Question, Reply, Search, T

TABLES: Final[tuple[Table, ...]] = ("holding", "input", "coil", "discrete")
# Before the connection is tried once more: a device that serves one client at a time may still hold the last one.
_RECONNECTING_S: Final = 1.0
_TELL_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """What is looked for and where; `pause_s` lies between all requests, `tolerance` is a share of `value`."""

    line: LineConfig
    unit_ids: Sequence[int]
    enough: int | None
    addresses: range
    tables: Sequence[Table] = TABLES
    pause_s: float = 0.02
    value: float | None = None
    tolerance: float = 0.01


@dataclass(slots=True)
class UnitFindings:
    """What was found of one unit."""

    unit_id: int
    ranges: list[Ranges] = field(default_factory=list)
    registers: Largest | None = None
    bits: Largest | None = None
    candidates: list[Candidate] = field(default_factory=list)


@dataclass(slots=True)
class Findings:
    """What was found so far. `pause_s` is what the line needs: None where that is not known."""

    unit_ids: list[int] = field(default_factory=list)
    any_unit: bool = False
    pause_s: float | None = None
    units: list[UnitFindings] = field(default_factory=list)
    requests: int = 0


class Probe:
    """One run of all searches; `findings` is filled as it goes, and holds what there is when it is cut short."""

    def __init__(self, options: ProbeOptions, line: ModbusLine, tell: Callable[[str], None]) -> None:
        self.findings = Findings()
        self._options, self._line, self._tell = options, line, tell
        self._pause_s = options.pause_s
        self._knows_pause = False
        self._tell_at = 0.0
        self._silence = "nothing was asked"
        """Why the last request that was not answered was not."""

    async def run(self) -> None:
        """All of it; raises ModbusFault where there is no line."""
        await self._find_units()
        for unit_id in self.findings.unit_ids:
            unit = UnitFindings(unit_id)
            self.findings.units.append(unit)
            await self._look_into(unit)
            if self._options.value is not None:
                self._find_value(unit, self._options.value)

    async def _find_units(self) -> None:
        options, found = self._options, self.findings
        self._tell(f"looking for units among {len(options.unit_ids)} ids")
        for table in TABLES[:2]:  # there are devices that are silent about tables that they do not have
            if not found.unit_ids:
                search = find_units(options.unit_ids, options.enough, found.unit_ids, table)
                found.any_unit = await self._follow(search)
        if found.any_unit:
            self._tell(f"any unit id is answered: taken for one device, asked as unit {found.unit_ids[0]}")
        else:
            self._tell(f"units: {', '.join(map(str, found.unit_ids)) or f'none ({self._silence})'}")

    async def _look_into(self, unit: UnitFindings) -> None:
        for table in self._options.tables:
            ranges = Ranges(table, [], {})
            unit.ranges.append(ranges)
            most = MAX_BITS if table in BIT_TABLES else MAX_REGISTERS
            search = FindRanges(unit.unit_id, self._options.addresses, most, ranges).search()
            await self._follow(search)
            self._tell(f"unit {unit.unit_id}: {describe(ranges)}")
        unit.registers = await self._largest(unit, of_bits=False)
        unit.bits = await self._largest(unit, of_bits=True)

    async def _largest(self, unit: UnitFindings, *, of_bits: bool) -> Largest | None:
        ranges = [ranges for ranges in unit.ranges if (ranges.table in BIT_TABLES) is of_bits and ranges.spans]
        if not ranges:
            return None
        longest = max(ranges, key=lambda one: len(one.longest))
        most = MAX_BITS if of_bits else MAX_REGISTERS
        largest = await self._follow(find_largest(unit.unit_id, longest.table, longest.longest, most))
        what = "coils or discrete inputs" if of_bits else "registers"
        bound = "at most" if largest.is_limit else "at least"
        self._tell(f"unit {unit.unit_id}: gives {bound} {largest.count} {what} at once")
        return largest

    def _find_value(self, unit: UnitFindings, value: float) -> None:
        for ranges in unit.ranges:
            content, tolerance = ranges.content, self._options.tolerance
            unit.candidates += find_value(unit.unit_id, ranges.table, content, value, tolerance)
        unit.candidates.sort(key=lambda candidate: (*candidate.likelihood, abs(candidate.value - value)))
        self._tell(f"unit {unit.unit_id}: {value:g} may be at {len(unit.candidates)} places")

    # Asking

    async def _follow(self, search: Search[T]) -> T:
        """Ask what a search wants to know until it ends."""
        try:
            question = next(search)
            while True:
                reply = await self._ask(question)
                if reply is not None and not self._knows_pause:
                    await self._measure_pause(question, reply)
                question = search.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _measure_pause(self, question: Question, reply: Reply) -> None:
        """The pause that the line needs, by the first question that is answered: by a gateway, and again by a unit."""
        self._knows_pause = True
        pause_s = await self._follow(find_pause(question))
        self._knows_pause = is_alive(reply)
        self.findings.pause_s = pause_s
        self._tell(_said_of(pause_s))
        # What is just enough now may be too little in a moment.
        self._pause_s = max(self._options.pause_s, 1.25 * (pause_s or 0.0))

    async def _ask(self, question: Question) -> Reply:
        self.findings.requests += 1
        self._tell_progress(question)
        request = read_request(question.unit_id, question.table, question.address, question.count)
        pause_s = self._pause_s if question.pause_s is None else question.pause_s
        for is_last in (False, True):
            try:
                return await self._line.read(request, self._options.line.request_timeout_s, pause_s=pause_s)
            except Refusal as exc:
                return Refused(exc.code)
            except NoAnswer as exc:
                self._silence = str(exc)
                return None
            except NoConnection:
                if is_last or self._line.connections == 0:
                    raise
                await asyncio.sleep(_RECONNECTING_S)
        return None

    def _tell_progress(self, question: Question) -> None:
        """Now and then, what is asked just now."""
        now = asyncio.get_running_loop().time()
        if now >= self._tell_at:
            if self._tell_at:
                at = f"unit {question.unit_id} {question.table} {question.address}"
                self._tell(f"... {at}, {self.findings.requests} requests so far")
            self._tell_at = now + _TELL_EVERY_S


def _said_of(pause_s: float | None) -> str:
    if pause_s is None:
        return "answers irregularly, whatever the pause"
    return f"needs a pause of {1000 * pause_s:.3g} ms" if pause_s else "needs no pause"


def describe(ranges: Ranges) -> str:
    """What can be read of a table, for a person."""
    spans = ", ".join(str(s.start) if len(s) == 1 else f"{s.start}-{s.stop - 1}" for s in ranges.spans)
    return f"{ranges.table} {spans or 'none'}" + (f" ({ranges.table} {ranges.gave_up})" if ranges.gave_up else "")
