"""How long each query of each dashboard takes on a month of a fleet: `python -m bench.dashboards`.

A server of its own is filled (bench/dashboards_data.py), and asked as Grafana asks it, by headwater_reader, for the
time that a dashboard shows at first, a week, and all there is. Of five times the middle one counts; the goal is 300 ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from bench.dashboards_data import Extent, fill
from db import migrate, roles
from grafana import inventory
from grafana.boards import boards
from stack import Timescale

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg2.extensions import cursor

    from grafana.board import Board

GOAL_MS: Final = 300.0
_TIMES: Final = 5
_PASSWORD: Final = "of a server that is gone afterwards"  # noqa: S105 - reached from loopback alone, and thrown away
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Timed:
    """A query for a time range: the middle of its times, and how many rows it gave."""

    question: inventory.Question
    span: timedelta
    took_ms: float
    rows: int

    def __str__(self) -> str:
        verdict = "ok" if self.took_ms <= GOAL_MS else "TOO SLOW"
        return f"{self.took_ms:8.1f} ms {self.rows:7} rows  {_shown(self.span):>5}  {verdict:<8}  {self.question}"


def main() -> int:
    """Fill, ask, print; 1 where a query takes longer than the goal."""
    options = _parser().parse_args()
    extent = Extent(options.nodes, timedelta(days=options.days), options.step, options.others_step)
    with Timescale(shared_buffers="512MB", settings={"fsync": "off"}) as server:
        dsn = server.create_database("dashboards")
        migrate.migrate(dsn, 30)
        began = time.monotonic()
        readings = fill(dsn, extent)
        print(f"{extent.nodes} nodes, {options.days} days: {readings:,} readings in {time.monotonic() - began:.0f} s")
        roles.allow_login(dsn, "headwater_reader", _PASSWORD, 10)
        reader = make_dsn(**(parse_dsn(dsn) | {"user": "headwater_reader", "password": _PASSWORD}))
        with closing(psycopg2.connect(reader)) as opened, opened.cursor() as asking:
            opened.autocommit = True
            timed = [each for board in boards() for each in _ask(asking, board, extent)]
    return _tell(timed, all_of_them=options.all)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.dashboards", description=__doc__)
    parser.add_argument("--nodes", type=int, default=50, help="nodes of the fleet (50)")
    parser.add_argument("--days", type=int, default=30, help="days of data (30)")
    parser.add_argument("--step", type=int, default=60, metavar="S", help="between readings of three nodes (60)")
    parser.add_argument("--others-step", type=int, default=600, metavar="S", help="between those of the others (600)")
    parser.add_argument("--all", action="store_true", help="print every query, not the slowest ones alone")
    return parser


def _ask(asking: cursor, board: Board, extent: Extent) -> Iterator[Timed]:
    def fetch(statement: str) -> Sequence[Sequence[object]]:
        asking.execute(statement)
        return asking.fetchall()

    first = _span(board)
    until = datetime.now(UTC)
    choices = inventory.choices(board, until - first, until, fetch)
    for span in sorted({first, min(timedelta(days=7), extent.span), extent.span}):
        for question in (*inventory.variables(board), *inventory.questions(board)):
            statement = question.asked(until - span, until, choices)
            times_ms, rows = [], 0
            for _ in range(_TIMES):
                began = time.perf_counter()
                rows = len(fetch(statement))
                times_ms.append((time.perf_counter() - began) * 1000)
            yield Timed(question, span, statistics.median(times_ms), rows)


def _span(board: Board) -> timedelta:
    """What a dashboard shows at first, such as `now-6h`."""
    text = board.from_.removeprefix("now-")
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def _shown(span: timedelta) -> str:
    return f"{span.days} d" if span.days else f"{span.seconds // 3600} h"


def _tell(timed: Sequence[Timed], *, all_of_them: bool) -> int:
    ordered = sorted(timed, key=lambda each: -each.took_ms)
    slow = [each for each in ordered if each.took_ms > GOAL_MS]
    print("\n".join(str(each) for each in (ordered if all_of_them else [*slow, *ordered[len(slow) :][:25]])))
    by_span: dict[timedelta, list[float]] = {}
    for each in timed:
        by_span.setdefault(each.span, []).append(each.took_ms)
    for span, took_ms in sorted(by_span.items()):
        middle = statistics.median(took_ms)
        print(f"{_shown(span):>5}: {len(took_ms)} queries, median {middle:.1f} ms, most {max(took_ms):.1f} ms")
    print(f"{len(timed) - len(slow)} of {len(timed)} within {GOAL_MS:g} ms")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
