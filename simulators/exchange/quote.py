"""A quote, and what gives quotes: a made-up market or recorded history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Quote:
    """What a symbol is worth at a time (UTC seconds) and how its session went so far; prices with two decimals."""

    price: float
    open: float
    high: float
    low: float
    previous_close: float
    at_s: int

    @property
    def volume(self) -> int:
        """Shares traded; made up, so that APIs which tell it have something to tell."""
        return 1_000_000 + round(10_000 * self.price)

    def to_finnhub(self) -> dict[str, float | int]:
        """The quote in the shape of Finnhub's `/quote`."""
        change = self.price - self.previous_close
        return {
            "c": self.price,
            "d": round(change, 2),
            "dp": round(100 * change / self.previous_close, 4),
            "h": self.high,
            "l": self.low,
            "o": self.open,
            "pc": self.previous_close,
            "t": self.at_s,
        }

    def to_metrics(self, symbol: str) -> dict[str, float]:
        """The quote by the names that the edge stores."""
        return {
            f"{symbol}/price": self.price,
            f"{symbol}/open": self.open,
            f"{symbol}/high": self.high,
            f"{symbol}/low": self.low,
            f"{symbol}/previous_close": self.previous_close,
        }


class QuoteSource(Protocol):
    """Gives the same quote whenever it is asked for the same symbol and time."""

    def quote(self, symbol: str, at_s: int) -> Quote | None:
        """The quote of a symbol at a UTC time in seconds; None for an unknown symbol."""
