"""A ledger in the time of a device that nobody tells the time.

At each boot it takes its clock from one that knows whole seconds alone, so it is off by up to one, and by as much until
the next. How far is seen from values that were answered once: when they were answered here, and when they are said to
have been sampled there.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_KEYS = ("at", "asked_at")
# Readings go through float32 registers and a REAL's decimals.
_DIGITS = 9


def retimed(ledger: Path, rows: Iterable[tuple[str, int, float]], cuts_ms: Sequence[int], target: Path) -> list[int]:
    """Writes the ledger in the device's time; returns how far that is ahead of ours, ms, for each boot.

    `rows` are metric, time in ms and value as they are stored, `cuts_ms` the times, ours, between boots.
    """
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    ahead = _ahead(entries, rows, cuts_ms)
    for entry in entries:
        entry |= {key: entry[key] + ahead[bisect(cuts_ms, entry[key])] for key in _KEYS if key in entry}
    target.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return ahead


def _ahead(entries: Sequence[dict[str, Any]], rows: Iterable[tuple[str, int, float]], cuts: Sequence[int]) -> list[int]:
    answers = [
        (metric, _rounded(value), entry["at"])
        for entry in entries
        for metric, value in entry.get("values", {}).items()
        if isinstance(value, float)
    ]
    counted = Counter((metric, value) for metric, value, _ in answers)
    once = {(metric, value): at for metric, value, at in answers if counted[metric, value] == 1}
    late: list[list[int]] = [[] for _ in range(len(cuts) + 1)]
    for metric, sampled_at, value in rows:
        if (at := once.get((metric, _rounded(value)))) is not None:
            late[bisect(cuts, at)].append(sampled_at - at)
    # What was sampled last before its poll was stamped is the nearest.
    return [min(found) for found in late]


def _rounded(value: float) -> str:
    return f"{value:.{_DIGITS}g}"
