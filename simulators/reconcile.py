"""Reconciliation: what a simulator served against what the tables hold. Pure: no file, no database.

Every served reading ends as one of four: stored, declared (missing, and said to be), lost, or wrong (stored
with another value). A stored reading that nobody served is a phantom, counted as duplicated. All times are UTC ms.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import groupby
from math import isclose
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from simulators.ledger import Value

Verdict: TypeAlias = Literal["lost", "duplicated", "wrong"]

# Two clocks on one machine, each rounded to ms.
SLACK_MS: Final = 1
_RELATIVE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Expected:
    """A reading that was served and should be stored.

    `source_at` is the source's own time, None where it has none. The same reading may have been served many times, and
    under one source time with several values, any of which will do. `excused` ones may be missing.
    """

    values: tuple[Value, ...]
    served_at: tuple[int, ...]
    asked_at: int
    source_at: int | None = None
    excused: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored reading; `is_good` is its quality."""

    sampled_at: int
    value: float | str | None
    is_good: bool = True


@dataclass(frozen=True, slots=True)
class Span:
    """A declared gap, both ends included."""

    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Offender:
    """One reading that is not as it should be."""

    verdict: Verdict
    metric: str
    at: int
    served: Value | None
    stored: float | str | None


@dataclass(frozen=True, slots=True)
class Tally:
    """The count of a source: `produced` is the sum of stored, declared, lost and wrong."""

    produced: int = 0
    stored: int = 0
    declared: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    offenders: tuple[Offender, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether something was produced and all of it accounted for."""
        return self.produced > 0 and not (self.lost or self.duplicated or self.wrong)


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which stored reading each served one became; `answered_bad` were answered by a row of bad quality."""

    pairs: list[tuple[Expected, Stored]] = field(default_factory=list)
    answered_bad: list[Expected] = field(default_factory=list)
    missing: list[Expected] = field(default_factory=list)
    phantoms: list[Stored] = field(default_factory=list)


def reconcile(
    served: Mapping[str, Sequence[Expected]], stored: Mapping[str, Sequence[Stored]], gaps: Sequence[Span]
) -> Tally:
    """The tally over the metrics that were served; offenders come in order of time."""
    offenders: list[Offender] = []
    counts = dict.fromkeys(("stored", "declared"), 0)
    for metric, expected in served.items():
        rows = sorted(stored.get(metric, ()), key=lambda row: row.sampled_at)
        pairing = pair(expected, rows)
        counts["stored"] += sum(_agrees(one, row) for one, row in pairing.pairs)
        found = list(_offenders(metric, pairing, gaps))
        counts["declared"] += len(pairing.answered_bad) + len(pairing.missing)
        counts["declared"] -= sum(offender.verdict == "lost" for offender in found)
        offenders += found
    verdicts = [offender.verdict for offender in offenders]
    return Tally(
        produced=sum(map(len, served.values())),
        lost=verdicts.count("lost"),
        duplicated=verdicts.count("duplicated"),
        wrong=verdicts.count("wrong"),
        offenders=tuple(sorted(offenders, key=lambda offender: (offender.at, offender.metric))),
        **counts,
    )


def pair(expected: Sequence[Expected], rows: Sequence[Stored]) -> Pairing:
    """Pair the readings of one metric, by source time where they have one; `rows` are in order of time."""
    by_service = [one for one in expected if one.source_at is None]
    if by_service and len(by_service) < len(expected):
        raise ValueError("readings with and without a source time cannot be paired together")
    return _pair_by_service(by_service, rows) if by_service else _pair_by_source_time(expected, rows)


def _pair_by_service(expected: Sequence[Expected], rows: Sequence[Stored]) -> Pairing:
    """Each reading belongs to the first row that is not older than its answer.

    An agent stamps a poll when all of it is in, and polls a source one after another. Of several readings of one
    row one is stored: the latest that agrees.
    """
    pairing = Pairing()
    times = [row.sampled_at for row in rows]
    bad = [row.sampled_at for row in rows if not row.is_good]
    ordered = sorted(expected, key=lambda one: one.served_at[-1])
    taken: set[int] = set()
    for index, group in groupby(ordered, key=lambda one: bisect_left(times, one.served_at[-1] - SLACK_MS)):
        claims = list(group)
        if index < len(rows) and rows[index].is_good:
            taken.add(index)
            own = next((one for one in reversed(claims) if _agrees(one, rows[index])), claims[-1])
            pairing.pairs.append((own, rows[index]))
            claims = [one for one in claims if one is not own]
        elif index < len(rows):
            pairing.answered_bad.extend(claims)
            continue
        for one in claims:
            # The agent had given up before the late answer came, and had said so.
            (pairing.answered_bad if _any_between(bad, one.asked_at, one.served_at[-1]) else pairing.missing).append(
                one
            )
    pairing.phantoms.extend(row for i, row in enumerate(rows) if row.is_good and i not in taken)
    return pairing


def _pair_by_source_time(expected: Sequence[Expected], rows: Sequence[Stored]) -> Pairing:
    """Each reading belongs to the row of exactly its source time."""
    pairing = Pairing()
    at = {row.sampled_at: row for row in rows}
    for one in expected:
        row = at.get(one.source_at or 0)
        if row is None:
            pairing.missing.append(one)
        elif row.is_good:
            pairing.pairs.append((one, row))
        else:
            pairing.answered_bad.append(one)
    known = {one.source_at for one in expected}
    pairing.phantoms.extend(row for row in rows if row.is_good and row.sampled_at not in known)
    return pairing


def _offenders(metric: str, pairing: Pairing, gaps: Sequence[Span]) -> Iterable[Offender]:
    for one, row in pairing.pairs:
        if not _agrees(one, row):
            yield Offender("wrong", metric, row.sampled_at, one.values[0], row.value)
    for one in pairing.missing:
        if not (one.excused or all(_is_in_gap(at, gaps) for at in one.served_at)):
            yield Offender("lost", metric, one.source_at or one.served_at[-1], one.values[0], None)
    for row in pairing.phantoms:
        yield Offender("duplicated", metric, row.sampled_at, None, row.value)


def _agrees(one: Expected, row: Stored) -> bool:
    return any(is_same(value, row.value) for value in one.values)


def is_same(served: Value, stored: float | str | None) -> bool:
    """Whether a value was stored as it was served: text as it is, numbers (booleans as 1 and 0) to 9 digits."""
    if isinstance(served, str) or isinstance(stored, str) or stored is None:
        return served == stored
    return isclose(float(served), stored, rel_tol=_RELATIVE, abs_tol=0.0)


def _is_in_gap(at: int, gaps: Sequence[Span]) -> bool:
    return any(gap.from_ms - SLACK_MS <= at <= gap.to_ms + SLACK_MS for gap in gaps)


def _any_between(times: Sequence[int], low: int, high: int) -> bool:
    return bisect_left(times, low) < bisect_right(times, high)
