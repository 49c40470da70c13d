"""Reconciliation: what a simulator served against what the tables hold. Pure: no file, no database.

Every served reading ends as one of four: stored, declared (missing, and said to be), lost, or wrong (stored
with another value). A stored reading that nobody served is a phantom, counted as duplicated. An excuse is used once
and has a reason, which is counted too: what hides behind it should be seen. All times are UTC ms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import isclose
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from simulators.ledger import Value

Verdict: TypeAlias = Literal["lost", "duplicated", "wrong"]
Excuse: TypeAlias = Literal["bad", "gap", "undelivered", "unpromised"]

# Two clocks on one machine, each rounded to ms.
SLACK_MS: Final = 1
_RELATIVE: Final = 1e-9
# A gap reaches from one poll to another, and a poll may take that long: its readings are no sign of a gap too wide.
_POLL_MS: Final = 250


@dataclass(frozen=True, slots=True)
class Expected:
    """A reading that was served and should be stored.

    `source_at` is the source's own time, None where it has none. The same reading may have been served many times, and
    under one source time with several values, any of which will do. `excused` ones may be missing, and so may those
    that nobody `promised`.
    """

    values: tuple[Value, ...]
    served_at: tuple[int, ...]
    asked_at: int
    source_at: int | None = None
    excused: bool = False
    promised: bool = True


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
    """The count of a source: `produced` is the sum of stored, declared, lost and wrong.

    `never_stored` are metrics that were served and of which not one reading was stored as served. `stored_in_gaps`
    are stored all the same: the gap is wider than what is missing. `latest_ms` is the longest from an answer to the
    time of its row, for sources without a time of their own: nothing else bounds that time from above.
    """

    produced: int = 0
    stored: int = 0
    declared_by: Mapping[Excuse, int] = field(default_factory=dict)
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    offenders: tuple[Offender, ...] = ()
    never_stored: tuple[str, ...] = ()
    stored_in_gaps: int = 0
    latest_ms: int = 0

    @property
    def declared(self) -> int:
        """Those missing with any excuse."""
        return sum(self.declared_by.values())

    @property
    def is_clean(self) -> bool:
        """Whether something of every metric was stored and all of it is accounted for."""
        return self.produced > 0 and not (self.lost or self.duplicated or self.wrong or self.never_stored)


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which stored reading each served one became; `answered_bad` were answered by a row of bad quality."""

    pairs: list[tuple[Expected, Stored]] = field(default_factory=list)
    answered_bad: list[Expected] = field(default_factory=list)
    missing: list[Expected] = field(default_factory=list)
    phantoms: list[Stored] = field(default_factory=list)


def reconcile(
    served: Mapping[str, Sequence[Expected]],
    stored: Mapping[str, Sequence[Stored]],
    gaps: Sequence[Span],
    refused: Mapping[str, Sequence[int]] | None = None,
) -> Tally:
    """The tally over the metrics that were served; offenders come in order of time.

    `refused` is when each metric was asked for in vain, in order.
    """
    offenders: list[Offender] = []
    declared: Counter[Excuse] = Counter()
    good: dict[str, list[tuple[Expected, Stored]]] = {}
    for metric, expected in served.items():
        rows = sorted(stored.get(metric, ()), key=lambda row: row.sampled_at)
        pairing = pair(expected, rows, (refused or {}).get(metric, ()))
        good[metric] = [(one, row) for one, row in pairing.pairs if _agrees(one, row)]
        declared["bad"] += len(pairing.answered_bad)
        declared.update(excuse for one in pairing.missing if (excuse := _excuse(one, gaps)))
        offenders += _offenders(metric, pairing, gaps)
    found = [pair for pairs in good.values() for pair in pairs]
    verdicts = Counter(offender.verdict for offender in offenders)
    return Tally(
        produced=sum(map(len, served.values())),
        stored=len(found),
        declared_by={excuse: count for excuse, count in declared.items() if count},
        lost=verdicts["lost"],
        duplicated=verdicts["duplicated"],
        wrong=verdicts["wrong"],
        offenders=tuple(sorted(offenders, key=lambda offender: (offender.at, offender.metric))),
        never_stored=tuple(sorted(metric for metric, pairs in good.items() if not pairs and _is_due(served[metric]))),
        stored_in_gaps=sum(_is_inside_gap(row.sampled_at, gaps) for _, row in found),
        latest_ms=max((row.sampled_at - one.served_at[-1] for one, row in found if one.source_at is None), default=0),
    )


def total(tallies: Mapping[str, Tally]) -> Tally:
    """The sum over nodes; its metrics begin with the node's name."""
    declared: Counter[Excuse] = Counter()
    for tally in tallies.values():
        declared.update(tally.declared_by)
    sums = {
        count: sum(getattr(tally, count) for tally in tallies.values())
        for count in ("produced", "stored", "lost", "duplicated", "wrong", "stored_in_gaps")
    }
    offenders = [
        replace(offender, metric=f"{node}/{offender.metric}")
        for node, tally in tallies.items()
        for offender in tally.offenders
    ]
    return Tally(
        **sums,
        declared_by=dict(declared),
        offenders=tuple(sorted(offenders, key=lambda offender: (offender.at, offender.metric))),
        never_stored=tuple(f"{node}/{metric}" for node, tally in tallies.items() for metric in tally.never_stored),
        latest_ms=max((tally.latest_ms for tally in tallies.values()), default=0),
    )


def pair(expected: Sequence[Expected], rows: Sequence[Stored], refused: Sequence[int] = ()) -> Pairing:
    """Pair the readings of one metric, by source time where they have one; `rows` are in order of time."""
    by_service = [one for one in expected if one.source_at is None]
    if by_service and len(by_service) < len(expected):
        raise ValueError("readings with and without a source time cannot be paired together")
    return _pair_by_service(by_service, rows, refused) if by_service else _pair_by_source_time(expected, rows)


def _pair_by_service(expected: Sequence[Expected], rows: Sequence[Stored], refused: Sequence[int]) -> Pairing:
    """Each reading belongs to the first row that is not older than its answer.

    An agent stamps a poll when all of it is in, and polls a source one after another. Of several readings of one
    good row one is stored: the latest that agrees. A bad row stands for the last of its readings, unless the source
    refused the metric after that: then it is the refusal's row, and the reading's own is missing.
    """
    pairing = Pairing()
    times = [row.sampled_at for row in rows]
    ordered = sorted(expected, key=lambda one: one.served_at[-1])
    taken: set[int] = set()
    homeless: list[Expected] = []
    for index, group in groupby(ordered, key=lambda one: bisect_left(times, one.served_at[-1] - SLACK_MS)):
        claims = list(group)
        own = _owner(claims, rows[index], refused) if index < len(rows) else None
        if own is not None and rows[index].is_good:
            pairing.pairs.append((own, rows[index]))
        elif own is not None:
            pairing.answered_bad.append(own)
        if own is not None:
            taken.add(index)
        homeless += [one for one in claims if one is not own]
    bad = [row.sampled_at for i, row in enumerate(rows) if not row.is_good and i not in taken]
    for one in homeless:
        # The agent had given up before the late answer came, and had said so.
        late = _first_between(bad, one.asked_at, one.served_at[-1])
        (pairing.missing if late is None else pairing.answered_bad).append(one)
        if late is not None:
            bad.remove(late)
    pairing.phantoms.extend(row for i, row in enumerate(rows) if row.is_good and i not in taken)
    return pairing


def _owner(claims: Sequence[Expected], row: Stored, refused: Sequence[int]) -> Expected | None:
    """Which of the readings that find a row it is the row of, if any."""
    last = claims[-1]
    if row.is_good:
        return next((one for one in reversed(claims) if _agrees(one, row)), last)
    return None if _first_between(refused, last.served_at[-1] + 1, row.sampled_at) is not None else last


def _pair_by_source_time(expected: Sequence[Expected], rows: Sequence[Stored]) -> Pairing:
    """Each reading belongs to the row of exactly its source time, and a row to one reading.

    A bad row is no excuse here: a poll that fails is stamped by the agent's clock, never by the source's.
    """
    pairing = Pairing()
    at: dict[int, list[Stored]] = defaultdict(list)
    for row in rows:
        at[row.sampled_at].append(row)
    for one in expected:
        there = at[one.source_at or 0]
        own = next((row for row in there if _agrees(one, row)), there[0] if there else None)
        if own is None:
            pairing.missing.append(one)
        else:
            there.remove(own)
            pairing.pairs.append((one, own))
    pairing.phantoms.extend(row for there in at.values() for row in there if row.is_good)
    return pairing


def _offenders(metric: str, pairing: Pairing, gaps: Sequence[Span]) -> Iterable[Offender]:
    for one, row in pairing.pairs:
        if not _agrees(one, row):
            yield Offender("wrong", metric, row.sampled_at, one.values[0], row.value)
    for one in pairing.missing:
        if _excuse(one, gaps) is None:
            yield Offender("lost", metric, one.source_at or one.served_at[-1], one.values[0], None)
    for row in pairing.phantoms:
        yield Offender("duplicated", metric, row.sampled_at, None, row.value)


def _excuse(missing: Expected, gaps: Sequence[Span]) -> Excuse | None:
    if missing.excused:
        return "undelivered"
    if not missing.promised:
        return "unpromised"
    return "gap" if all(_is_in_gap(at, gaps) for at in missing.served_at) else None


def _is_due(expected: Iterable[Expected]) -> bool:
    return any(one.promised for one in expected)


def _agrees(one: Expected, row: Stored) -> bool:
    return row.is_good and any(is_same(value, row.value) for value in one.values)


def is_same(served: Value, stored: float | str | None) -> bool:
    """Whether a value was stored as it was served: text as it is, numbers (booleans as 1 and 0) to 9 digits."""
    if isinstance(served, str) or isinstance(stored, str) or stored is None:
        return served == stored
    return isclose(float(served), stored, rel_tol=_RELATIVE, abs_tol=0.0)


def _is_in_gap(at: int, gaps: Sequence[Span]) -> bool:
    return any(gap.from_ms - SLACK_MS <= at <= gap.to_ms + SLACK_MS for gap in gaps)


def _is_inside_gap(at: int, gaps: Sequence[Span]) -> bool:
    return any(gap.from_ms + _POLL_MS < at < gap.to_ms - _POLL_MS for gap in gaps)


def _first_between(times: Sequence[int], low: int, high: int) -> int | None:
    index = bisect_left(times, low)
    return times[index] if index < len(times) and times[index] <= high else None
