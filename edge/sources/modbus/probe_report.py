"""What a probe found, as a configuration to paste. No I/O."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from edge.sources.modbus.config import ModbusConfig
from edge.sources.modbus.points import BIT_TABLES
from edge.sources.modbus.probe import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.sources.modbus.config import LineConfig
    from edge.sources.modbus.probe import Findings, ProbeOptions, UnitFindings

# Seconds from poll to poll, of which the first that the line can do is taken.
_INTERVALS_S: Final = (1, 10, 60, 600, 86_400)
# Of a value that may stand at many places the likeliest are shown.
_MOST_CANDIDATES: Final = 8
_MAX_GAP: Final = 4


def to_yaml(findings: Findings, options: ProbeOptions, name: str) -> str:
    """A list of one source for the agent's configuration, with what else was found as comments."""
    units = [unit for unit in findings.units if _points(unit)]
    lines = [f"# Found by probing {options.line.line_name}, {findings.requests} requests, nothing written."]
    lines += [f"# {line}" for line in _remarks(findings, options)]
    if not units:
        return "\n".join(lines) + "\n"
    source = {"type": "modbus", "name": name, "interval_s": 0, **_line(options.line), **_pause(findings)}
    source |= {"units": [_unit(unit) for unit in units]}
    document = {"sources": [_with_interval(source)]}
    return "\n".join(lines) + "\n" + yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=250)


def _remarks(findings: Findings, options: ProbeOptions) -> Iterator[str]:
    if findings.any_unit:
        yield "The device answers to any unit id."
    if findings.pause_s is None:
        yield "It was not found what pause it needs."
    for unit in findings.units:
        who = f"unit {unit.unit_id}:"
        yield from (f"{who} {describe(ranges)}" for ranges in unit.ranges)
        for largest, what in ((unit.registers, "registers"), (unit.bits, "bits")):
            if largest is not None and not largest.is_limit:
                yield f"{who} {largest.count} {what} at once are given; no more stand in a row: the limit may be higher"
        if options.value is not None:
            yield f"{who} {options.value:g} may be at {len(unit.candidates)} places; the likeliest come first"
    unknown = set(findings.unit_ids) - {unit.unit_id for unit in findings.units}
    if unknown:
        yield f"not looked into: units {', '.join(map(str, sorted(unknown)))}"


def _line(line: LineConfig) -> dict[str, Any]:
    """What the configuration must say of the line: what is not the default."""
    said = line.model_dump(exclude_defaults=True)
    said.pop("late_answer_s", None)
    return said


def _pause(findings: Findings) -> dict[str, float]:
    if not findings.pause_s:
        return {}
    # A fifth more than was just enough, in whole ms.
    return {"pause_s": math.ceil(1200 * findings.pause_s) / 1000}


def _unit(unit: UnitFindings) -> dict[str, Any]:
    found: dict[str, Any] = {"unit_id": unit.unit_id}
    if unit.registers is not None and unit.registers.is_limit:
        found["max_registers"] = unit.registers.count
    if unit.bits is not None and unit.bits.is_limit:
        found["max_bits"] = unit.bits.count
    if holes := list(_holes(unit)):
        found["forbidden"] = holes
    return found | {"points": _points(unit)}


def _holes(unit: UnitFindings) -> Iterator[dict[str, Any]]:
    """The unreadable addresses that a poll would otherwise read along with their neighbours."""
    for ranges in unit.ranges:
        for before, after in pairwise(ranges.spans):
            if after.start - before.stop <= _MAX_GAP:
                yield {"table": ranges.table, "first": before.stop, "last": after.start - 1}


def _points(unit: UnitFindings) -> list[dict[str, Any]]:
    """The likeliest places of the value; without one, the start of each range, to be looked up in the manual."""
    prefix = f"unit{unit.unit_id}"
    if unit.candidates:
        chosen = unit.candidates[:_MOST_CANDIDATES]
        return [
            candidate.to_point(f"{prefix}/{candidate.table}/{candidate.address}/{number}")
            | {"description": f"was {candidate.value:.6g}"}
            for number, candidate in enumerate(chosen, 1)
        ]
    return [
        {
            "name": f"{prefix}/{ranges.table}/{span.start}",
            "table": ranges.table,
            "address": span.start,
            "datatype": "bool" if ranges.table in BIT_TABLES else "uint16",
        }
        for ranges in unit.ranges
        for span in ranges.spans
    ]


def _with_interval(source: dict[str, Any]) -> dict[str, Any]:
    """The source with the shortest interval that its line can do."""
    for interval_s in _INTERVALS_S:
        candidate = source | {"interval_s": interval_s}
        try:
            ModbusConfig.model_validate(candidate)
        except ValidationError:
            continue
        return candidate
    return source | {"interval_s": _INTERVALS_S[-1]}
