"""When the simulated exchange trades, and its quotes at those times."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from contract.config import Config

if TYPE_CHECKING:
    from datetime import tzinfo

    from simulators.exchange.quote import Quote, QuoteSource

_FRIDAY = 4
_CLOSE = time(16)


class TradingHours(Config):
    """From Monday to Friday; there are no holidays."""

    zone: str = Field(default="America/New_York", description="IANA zone of the exchange")
    opens: time = Field(default=time(9, 30), description="HH:MM")
    closes: time = Field(default=_CLOSE, description="HH:MM, later on the same day")

    @field_validator("zone")
    @classmethod
    def _zone_is_known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, OSError, ValueError) as exc:
            raise ValueError(f"{zone!r} is no time zone") from exc
        return zone

    @model_validator(mode="after")
    def _closes_after_it_opens(self) -> Self:
        if self.closes <= self.opens:
            raise ValueError(f"closes {self.closes} is not after opens {self.opens}")
        return self

    def last_open_s(self, now_s: float) -> int:
        """The last second, not after a UTC time, at which the exchange was open."""
        zone = ZoneInfo(self.zone)
        local = datetime.fromtimestamp(now_s, UTC).astimezone(zone)
        day = local.date()
        if local.time() < self.opens:
            day -= timedelta(days=1)
        while day.weekday() > _FRIDAY:
            day -= timedelta(days=1)
        closes_s = datetime.combine(day, self.closes, tzinfo=zone).timestamp()
        return int(min(now_s, closes_s))


class Trading:
    """Quotes of an exchange that is always open, or keeps hours."""

    def __init__(self, quotes: QuoteSource, hours: TradingHours | None = None) -> None:
        self._quotes = quotes
        self._hours = hours

    def now(self, symbol: str, now_s: float) -> Quote | None:
        """The last quote, that of the close while the exchange is closed; None for an unknown symbol."""
        at_s = int(now_s) if self._hours is None else self._hours.last_open_s(now_s)
        return self._quotes.quote(symbol, at_s)

    def at_close(self, symbol: str, now_s: float, zone: tzinfo) -> Quote | None:
        """The quote of the last 16:00 in a zone, at exactly that time, on Monday to Friday where it keeps hours."""
        day = (datetime.fromtimestamp(now_s, UTC).astimezone(zone) - timedelta(hours=_CLOSE.hour)).date()
        while self._hours is not None and day.weekday() > _FRIDAY:
            day -= timedelta(days=1)
        at_s = int(datetime.combine(day, _CLOSE, tzinfo=zone).timestamp())
        return self._quotes.quote(symbol, at_s)
