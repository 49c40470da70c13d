"""The reconciliation as a person or a program reads it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from simulators.reconcile import Excuse, Offender, Span, Tally
    from simulators.reconcile_targets import Result

_COUNTS: Final = ("produced", "stored", "declared", "lost", "duplicated", "wrong")
_FAULTS: Final = frozenset({"lost", "duplicated", "wrong"})
_SHOWN: Final = 10
_EXCUSES: Final[Mapping[Excuse, str]] = {
    "bad": "stored as bad readings",
    "gap": "in declared gaps",
    "undelivered": "sent as a connection ended",
    "unpromised": "sent without a promise (QoS 0)",
}
# On one machine an answer is in at once; this much later somebody should look.
_LATE_MS: Final = 1000


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """All counts, and the first offenders of each source."""
    return {
        "clean": all(result.is_clean for result in results),
        "sources": [
            {
                "source": result.source,
                **{count: getattr(result.tally, count) for count in _COUNTS},
                "declared_by": {excuse: result.tally.declared_by.get(excuse, 0) for excuse in _EXCUSES},
                "gaps": len(result.gaps),
                "gaps_s": _union_ms(result.gaps) / 1000,
                "stored_in_gaps": result.tally.stored_in_gaps,
                "latest_ms": result.tally.latest_ms,
                "offenders": [asdict(offender) for offender in result.tally.offenders[:_SHOWN]],
                "never_stored": list(result.tally.never_stored),
                "unmatched": list(result.unmatched),
                "unserved": list(result.unserved),
                "older": result.older,
            }
            for result in results
        ],
    }


def show(results: Sequence[Result], console: Console) -> None:
    """Print the table of counts, then what to look at, source by source."""
    console.print(_counts(results))
    for result in results:
        if not result.tally.produced:
            console.print(f"[red]{result.source}: nothing was produced: was it polled at all?[/red]")
        if result.tally.offenders:
            console.print(_offenders(result.source, result.tally))
        for text, style in _notes(result):
            console.print(f"{result.source}: {text}", style=style, markup=False, highlight=False)


def _notes(result: Result) -> Iterable[tuple[str, str]]:
    """What the counts alone do not say: line and style."""
    tally = result.tally
    if result.unmatched:
        yield f"not in the ledger, so not checked: {', '.join(result.unmatched)}", "red"
    if tally.produced and tally.never_stored:
        yield f"served, and not once stored as served: {', '.join(tally.never_stored)}", "red"
    if tally.declared:
        parts = [f"{count:,} {_EXCUSES[excuse]}" for excuse, count in tally.declared_by.items()]
        yield f"declared {tally.declared / tally.produced:.1%}: {', '.join(parts)}", "yellow"
    if result.gaps:
        span = f"gaps declared: {len(result.gaps):,}, over {_union_ms(result.gaps) / 1000:,.1f} s"
        wide = f", wider than what is missing: {tally.stored_in_gaps:,} stored readings lie inside of them"
        yield span + (wide if tally.stored_in_gaps else ""), "yellow" if tally.stored_in_gaps else "dim"
    if tally.latest_ms > _LATE_MS:
        yield f"stamped up to {tally.latest_ms:,} ms after it was served", "yellow"
    if result.older:
        yield f"{result.older:,} stored readings are older than the ledger, so not judged", "yellow"
    if result.unserved:
        yield f"not held against the ledger: {', '.join(result.unserved)}", "dim"


def _union_ms(gaps: Sequence[Span]) -> int:
    """How long at least one of the gaps lasts."""
    total = reached = 0
    for gap in sorted(gaps, key=lambda gap: gap.from_ms):
        total += max(gap.to_ms - max(gap.from_ms, reached), 0)
        reached = max(reached, gap.to_ms)
    return total


def _counts(results: Sequence[Result]) -> Table:
    table = Table(title="Readings served by the simulators, and where they are")
    table.add_column("source")
    for count in _COUNTS:
        table.add_column(count, justify="right")
    for result in results:
        table.add_row(result.source, *_cells(result.tally))
    return table


def _cells(tally: Tally) -> Iterable[str]:
    for count in _COUNTS:
        number = getattr(tally, count)
        is_wrong = number > 0 if count in _FAULTS else number == 0 and count == "produced"
        yield f"[red]{number:,}[/red]" if is_wrong else f"{number:,}"


def _offenders(source: str, tally: Tally) -> Table:
    more = len(tally.offenders) - _SHOWN
    table = Table(title=f"{source}: what to look at", caption=f"and {more:,} more" if more > 0 else None)
    for column in ("what", "metric", "time (UTC)", "served", "stored"):
        table.add_column(column)
    for offender in tally.offenders[:_SHOWN]:
        table.add_row(
            offender.verdict, escape(offender.metric), _time(offender), _value(offender.served), _value(offender.stored)
        )
    return table


def _time(offender: Offender) -> str:
    return datetime.fromtimestamp(offender.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _value(value: object) -> str:
    return "-" if value is None else escape(str(value))
