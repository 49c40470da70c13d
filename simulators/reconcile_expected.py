"""What a ledger says should be stored."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from simulators.errors import LedgerError
from simulators.ledger import Closed, Header, Match, Refused, Served
from simulators.reconcile import Expected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from simulators.ledger import Entry, Value

# What was sent so shortly before its connection ended may never have arrived.
UNDELIVERED_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class Truth:
    """What was served of each metric, when it was refused, and from when on the stored readings are this ledger's.

    `unmatched` are globs that no metric of the ledger matches: what they were to check is not checked.
    """

    expected: Mapping[str, Sequence[Expected]]
    since_ms: int
    refused: Mapping[str, Sequence[int]] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sent:
    """A served answer, and which run and connection it went to."""

    served: Served
    run: int


def truth_of(entries: Iterable[Entry], metrics: Sequence[str] = ("*",), interval_s: float | None = None) -> Truth:
    """What should be stored of the metrics that match a glob; raises LedgerError for a ledger without a header.

    `interval_s` is the agent's for a camera: it keeps the first frame of each interval.
    """
    headers: list[Header] = []
    sent: list[_Sent] = []
    refused: dict[str, list[int]] = defaultdict(list)
    closed_at: dict[tuple[int, int | None], int] = {}
    for entry in entries:
        match entry:
            case Header():
                headers.append(entry)
            case Served():
                sent.append(_Sent(entry, len(headers)))
            case Refused():
                for metric in entry.metrics:
                    refused[metric].append(entry.at)
            case Closed():
                closed_at[len(headers), entry.connection] = entry.at
            case _:
                pass
    if not headers:
        raise LedgerError("the ledger has no header: its simulator never started")
    expected = _expected(headers[0].match, sent, closed_at, interval_s)
    wanted = {metric: found for metric, found in expected.items() if any(fnmatchcase(metric, g) for g in metrics)}
    unmatched = tuple(g for g in metrics if not any(fnmatchcase(metric, g) for metric in wanted))
    return Truth(wanted, _since(headers[0], wanted), refused, unmatched)


def by_node(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """A fleet's ledger taken apart: of each node its samples, and every header; raises LedgerError without a header."""
    headers: list[Entry] = []
    samples: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        match entry:
            case Header():
                headers.append(entry)
            case Served(node=str(node)):
                samples[node].append(entry)
            case _:
                raise LedgerError("the ledger is none of a fleet: it has entries without a node")
    if not headers:
        raise LedgerError("the ledger has no header: its simulator never started")
    return {node: [*headers, *found] for node, found in samples.items()}


def _expected(
    match: Match, sent: Sequence[_Sent], closed_at: Mapping[tuple[int, int | None], int], interval_s: float | None
) -> dict[str, list[Expected]]:
    match match:
        case Match.SERVED:
            return _each_answer(sent)
        case Match.SOURCE_TIME:
            return _each_source_time(sent, excused=lambda _: False)
        case Match.FRAME:
            if interval_s is None:
                raise LedgerError("a camera's target needs interval_s")
            first = _first_frames(sent, round(interval_s * 1000))
            # A connection that no line closes was cut with its simulator.
            ends: dict[tuple[int, int | None], int] = {(one.run, None): one.served.at for one in sent} | dict(closed_at)
            return _each_source_time(
                first,
                excused=lambda one: (
                    ends.get((one.run, one.served.connection), ends[one.run, None]) - one.served.at < UNDELIVERED_MS
                ),
            )


def _each_answer(sent: Iterable[_Sent]) -> dict[str, list[Expected]]:
    expected: dict[str, list[Expected]] = defaultdict(list)
    for served in (one.served for one in sent):
        asked_at = served.at if served.asked_at is None else served.asked_at
        for metric, value in served.values.items():
            expected[metric].append(Expected((value,), (served.at,), asked_at))
    return expected


def _each_source_time(sent: Iterable[_Sent], excused: Callable[[_Sent], bool]) -> dict[str, list[Expected]]:
    """One reading per source time, however often it was served; excused if each serving is."""
    servings: dict[tuple[str, int], list[tuple[Value, _Sent]]] = defaultdict(list)
    for one in sent:
        if one.served.source_at is None:
            raise LedgerError(f"the answer served at {one.served.at} has no source_at")
        for metric, value in one.served.values.items():
            servings[metric, one.served.source_at].append((value, one))
    expected: dict[str, list[Expected]] = defaultdict(list)
    for (metric, source_at), found in servings.items():
        at = tuple(_noted_at(one.served) for _, one in found)
        values = tuple(dict.fromkeys(value for value, _ in found))
        is_excused, is_promised = all(excused(one) for _, one in found), any(one.served.promised for _, one in found)
        expected[metric].append(Expected(values, at, at[0], source_at, is_excused, is_promised))
    return expected


def _noted_at(served: Served) -> int:
    """When gaps say that it was: a fleet's nodes, whose clocks may be wrong, declare theirs by them."""
    return served.at if served.node is None or served.source_at is None else served.source_at


def _first_frames(sent: Iterable[_Sent], interval_ms: int) -> list[_Sent]:
    """The first frame of each interval of each connection: what the agent keeps."""
    first: dict[tuple[int, int | None, int], _Sent] = {}
    for one in sent:
        slot = (one.served.source_at or 0) // interval_ms
        first.setdefault((one.run, one.served.connection, slot), one)
    return list(first.values())


def _since(header: Header, expected: Mapping[str, Sequence[Expected]]) -> int:
    """A source's own times may be older than its simulator."""
    times = [one.source_at for found in expected.values() for one in found if one.source_at is not None]
    return min(times, default=header.started_at)
