"""Finnhub's `/quote`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from simulators.reception import Reply, json_reply

if TYPE_CHECKING:
    from starlette.requests import Request

    from simulators.exchange.trading import Trading

_UNKNOWN: Final = {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}


class Finnhub:
    """Quotes in the shape of Finnhub's API; the errors' words are its own."""

    path = "/api/v1/quote"

    def __init__(self, trading: Trading) -> None:
        self._trading = trading

    def key(self, request: Request) -> str | None:
        """From the header, else the query."""
        return request.headers.get("x-finnhub-token") or request.query_params.get("token")

    def unauthorized(self, request: Request) -> Reply:
        """HTTP 401."""
        return _error(401, "Invalid API key." if self.key(request) else "Please use an API key.")

    def throttled(self, request: Request, wait_s: int) -> Reply:
        """HTTP 429."""
        del request
        message = "API limit reached. Please try again later. Remaining Limit: 0"
        return _error(429, message, {"Retry-After": str(wait_s)})

    def exhausted(self, request: Request, wait_s: int) -> Reply:
        """The same: it has no limit of a day."""
        return self.throttled(request, wait_s)

    def answer(self, request: Request, now_s: float, *, other_units: bool) -> Reply:
        """The quote of one symbol; zeros for one that is unknown."""
        del other_units
        symbols = request.query_params.getlist("symbol")
        if len(symbols) != 1 or not symbols[0]:
            return _error(400, f"symbol: {len(symbols)} given, allowed is one that is not empty")
        quote = self._trading.now(symbols[0], now_s)
        if quote is None:
            return json_reply(_UNKNOWN)
        return json_reply(quote.to_finnhub(), values=quote.to_metrics(symbols[0]), source_at=1000 * quote.at_s)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Reply:
    return json_reply({"error": message}, status, headers=headers or {})
