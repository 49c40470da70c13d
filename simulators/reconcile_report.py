"""The reconciliation as a person or a program reads it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from simulators.reconcile import Offender, Tally
    from simulators.reconcile_targets import Result

_COUNTS: Final = ("produced", "stored", "declared", "lost", "duplicated", "wrong")
_FAULTS: Final = frozenset({"lost", "duplicated", "wrong"})
_SHOWN: Final = 10


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """All counts, and the first offenders of each source."""
    return {
        "clean": all(result.tally.is_clean for result in results),
        "sources": [
            {
                "source": result.source,
                **{count: getattr(result.tally, count) for count in _COUNTS},
                "offenders": [asdict(offender) for offender in result.tally.offenders[:_SHOWN]],
                "unserved": list(result.unserved),
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
        if result.unserved:
            console.print(f"{result.source}: not held against the ledger: {', '.join(result.unserved)}", style="dim")


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
