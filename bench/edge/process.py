"""What a process and its children have cost, from /proc."""

from __future__ import annotations

from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]  # psutil publishes no types

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time so far, and memory now."""

    cpu_s: float
    resident_mib: float


def usage(pid: int) -> Usage:
    """Of a process and all its descendants; memory that they share counts once (PSS)."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    times = [member.cpu_times() for member in family]
    memory = sum(member.memory_full_info().pss for member in family)
    return Usage(sum(spent.user + spent.system for spent in times), memory / _MIB)
