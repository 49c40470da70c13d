"""Alpha Vantage's `GLOBAL_QUOTE`: the quote of the last close, every number a text, every refusal a 200."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from simulators.reception import Reply, json_reply

if TYPE_CHECKING:
    from starlette.requests import Request

    from simulators.exchange.quote import Quote
    from simulators.exchange.trading import Trading

_NEW_YORK: Final = ZoneInfo("America/New_York")


class AlphaVantage:
    """Quotes in the shape of Alpha Vantage's API."""

    path = "/query"

    def __init__(self, trading: Trading) -> None:
        self._trading = trading

    def key(self, request: Request) -> str | None:
        """From the query."""
        return request.query_params.get("apikey")

    def unauthorized(self, request: Request) -> Reply:
        """A message, with a status of 200."""
        del request
        return json_reply(
            {"Error Message": "the parameter apikey is invalid or missing. Please claim your free API key."}
        )

    def throttled(self, request: Request, wait_s: int) -> Reply:
        """The message about the burst."""
        del request, wait_s
        return json_reply(
            {
                "Information": "Thank you for using Alpha Vantage! Please consider spreading out your free API "
                "requests more sparingly (1 request per second). You may subscribe to any of the premium plans to "
                "lift the free key rate limit (25 requests per day)."
            }
        )

    def exhausted(self, request: Request, wait_s: int) -> Reply:
        """The message about the day, which repeats the key."""
        del wait_s
        return json_reply(
            {
                "Information": f"We have detected your API key as {self.key(request)} and our standard API rate limit "
                "is 25 requests per day. Please subscribe to any of the premium plans."
            }
        )

    def answer(self, request: Request, now_s: float, *, other_units: bool) -> Reply:
        """The quote of the last close; an empty one for an unknown symbol."""
        del other_units
        query = request.query_params
        if query.get("function") != "GLOBAL_QUOTE" or not query.get("symbol"):
            return json_reply({"Error Message": "Invalid API call. Please retry or visit the documentation."})
        symbol = query["symbol"]
        quote = self._trading.at_close(symbol, now_s, _NEW_YORK)
        if quote is None:
            return json_reply({"Global Quote": {}})
        values = {**quote.to_metrics(symbol), f"{symbol}/volume": quote.volume}
        return json_reply({"Global Quote": _fields(symbol, quote)}, values=values, source_at=1000 * quote.at_s)


def _fields(symbol: str, quote: Quote) -> dict[str, str]:
    change = quote.price - quote.previous_close
    return {
        "01. symbol": symbol,
        "02. open": f"{quote.open:.4f}",
        "03. high": f"{quote.high:.4f}",
        "04. low": f"{quote.low:.4f}",
        "05. price": f"{quote.price:.4f}",
        "06. volume": str(quote.volume),
        "07. latest trading day": datetime.fromtimestamp(quote.at_s, UTC).astimezone(_NEW_YORK).date().isoformat(),
        "08. previous close": f"{quote.previous_close:.4f}",
        "09. change": f"{change:.4f}",
        "10. change percent": f"{100 * change / quote.previous_close:.4f}%",
    }
