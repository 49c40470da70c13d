"""Stooq's `/q/l/`: the quotes of many symbols as CSV, by Warsaw's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from simulators.reception import Reply

if TYPE_CHECKING:
    from starlette.requests import Request

    from simulators.exchange.quote import Quote
    from simulators.exchange.trading import Trading

_WARSAW: Final = ZoneInfo("Europe/Warsaw")
_HEADER: Final = "Symbol,Date,Time,Open,High,Low,Close,Volume"
_FIELDS: Final = "sd2t2ohlcv"
_CSV: Final = "text/csv"


class Stooq:
    """Quotes in the shape of Stooq's downloads."""

    path = "/q/l/"

    def __init__(self, trading: Trading) -> None:
        self._trading = trading

    def key(self, request: Request) -> str | None:
        """From the query."""
        return request.query_params.get("apikey")

    def unauthorized(self, request: Request) -> Reply:
        """A sentence."""
        del request
        return Reply(b"Access denied: get your apikey", "text/plain")

    def throttled(self, request: Request, wait_s: int) -> Reply:
        """The same words for both limits."""
        del request, wait_s
        return Reply(b"Exceeded the daily hits limit", "text/plain")

    def exhausted(self, request: Request, wait_s: int) -> Reply:
        """A sentence, with a status of 200."""
        return self.throttled(request, wait_s)

    def answer(self, request: Request, now_s: float, *, other_units: bool) -> Reply:
        """A row for each symbol; N/D throughout for one that is unknown."""
        del other_units
        query = request.query_params
        symbols = query.get("s", "").split()
        if query.get("f") != _FIELDS or query.get("e") != "csv" or "h" not in query or not symbols:
            return Reply(b"Simulated are s, f=sd2t2ohlcv, h and e=csv", "text/plain", 400)
        lines, source_at = [_HEADER], None
        values: dict[str, float] = {}
        for symbol in symbols:
            quote = self._trading.now(symbol, now_s) or self._trading.now(symbol.upper().removesuffix(".US"), now_s)
            lines.append(_row(symbol.upper(), quote))
            if quote is not None:
                values |= _metrics(symbol, quote)
                source_at = 1000 * quote.at_s
        return Reply("\r\n".join([*lines, ""]).encode(), _CSV, values=values, source_at=source_at)


def _metrics(symbol: str, quote: Quote) -> dict[str, float]:
    found = quote.to_metrics(symbol)
    # There is none in this download.
    del found[f"{symbol}/previous_close"]
    return {**found, f"{symbol}/volume": quote.volume}


def _row(symbol: str, quote: Quote | None) -> str:
    if quote is None:
        return ",".join([symbol, *["N/D"] * 7])
    at = datetime.fromtimestamp(quote.at_s, UTC).astimezone(_WARSAW)
    prices = [str(price) for price in (quote.open, quote.high, quote.low, quote.price)]
    return ",".join([symbol, at.strftime("%Y-%m-%d,%H:%M:%S"), *prices, str(quote.volume)])
