"""When a market is open: sessions in the zone of the exchange, and the days on which there are none."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from pydantic import Discriminator, Field, Tag, model_validator

from contract.config import Config
from edge.sources.rest.nyse import NYSE_CLOSE, NYSE_OPEN, NYSE_ZONE, nyse_early_close, nyse_holidays
from edge.sources.rest.times import TimeOfDay, Zone  # noqa: TC001 - pydantic reads the annotations at run time

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S: Final = 86_400
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# Longer than any market stays closed.
_SEARCHED_DAYS: Final = 30


class Session(Config):
    """One session of the days of the week it is held on."""

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(
        default=("mon", "tue", "wed", "thu", "fri"), min_length=1, description="days of the week"
    )
    opens: TimeOfDay = Field(description="HH:MM in the exchange's zone")
    closes: TimeOfDay = Field(description="HH:MM in the exchange's zone, later on the same day")

    @model_validator(mode="after")
    def _closes_after_it_opens(self) -> Self:
        if time.fromisoformat(self.closes) <= time.fromisoformat(self.opens):
            raise ValueError(f"closes {self.closes} is not after opens {self.opens}; one over midnight is two")
        return self


class Calendar(Config):
    """The hours of an exchange, written out."""

    zone: Zone = Field(description="IANA zone of the exchange")
    sessions: tuple[Session, ...] = Field(min_length=1, description="when it is open, week by week")
    holidays: tuple[date, ...] = Field(default=(), description="days without a session, YYYY-MM-DD")
    early_closes: dict[date, TimeOfDay] = Field(default_factory=dict, description="days that end early: date: HH:MM")


class Span(NamedTuple):
    """A session: aware UTC, the end is not in it."""

    opens: datetime
    closes: datetime


def _kind(setting: object) -> str:
    # Else the union would answer with every fault of every kind.
    return "name" if isinstance(setting, str) else "calendar"


HoursSetting = Annotated[
    Annotated[Literal["always", "nyse"], Tag("name")] | Annotated[Calendar, Tag("calendar")], Discriminator(_kind)
]


class Hours:
    """Asks a calendar; `lingers_s` is how long after a close its last values still come."""

    def __init__(self, setting: Literal["nyse"] | Calendar, lingers_s: float = 0.0) -> None:
        self._has_nyse_days = setting == "nyse"
        self._calendar = _nyse() if isinstance(setting, str) else setting
        self._lingers = timedelta(seconds=lingers_s)
        self._zone = ZoneInfo(self._calendar.zone)
        self._sessions_on = lru_cache(maxsize=64)(self._compute_sessions_on)

    def is_open(self, at_ms: int) -> bool:
        """Whether a session is held, or its last values may still come."""
        at = _utc(at_ms)
        return any(span.opens <= at < span.closes + self._lingers for span in self._around(at))

    def opens_next_ms(self, at_ms: int) -> int | None:
        """UTC ms of the next opening after a time; None when there is none for a month."""
        at = _utc(at_ms)
        day = at.astimezone(self._zone).date()
        for ahead in range(_SEARCHED_DAYS):
            for span in self._sessions_on(day + timedelta(days=ahead)):
                if span.opens > at:
                    return round(span.opens.timestamp() * 1000)
        return None

    def local(self, at_ms: int) -> str:
        """A time as the exchange tells it."""
        return _utc(at_ms).astimezone(self._zone).strftime("%a %Y-%m-%d %H:%M %Z")

    def describe(self) -> str:
        """Its sessions, for people."""
        held = [f"{'/'.join(s.days)} {s.opens} to {s.closes}" for s in self._calendar.sessions]
        return f"{', '.join(held)} {self._calendar.zone}"

    def longest_open_s(self) -> float:
        """Seconds of the longest day of a week, lingering included."""
        return min(DAY_S, max(self._open_s(weekday) for weekday in _WEEKDAYS))

    def _open_s(self, weekday: str) -> float:
        held = [session for session in self._calendar.sessions if weekday in session.days]
        return sum(
            (_seconds(session.closes) - _seconds(session.opens)) + self._lingers.total_seconds() for session in held
        )

    def _around(self, at: datetime) -> Iterator[Span]:
        day = at.astimezone(self._zone).date()
        for offset in (-1, 0):
            yield from self._sessions_on(day + timedelta(days=offset))

    def _compute_sessions_on(self, day: date) -> tuple[Span, ...]:
        calendar = self._calendar
        if day in calendar.holidays or (self._has_nyse_days and day in nyse_holidays(day.year)):
            return ()
        early = nyse_early_close(day) if self._has_nyse_days else None
        early = calendar.early_closes.get(day, early)
        spans = []
        for session in calendar.sessions:
            if _WEEKDAYS[day.weekday()] in session.days:
                closes = session.closes if early is None else min(session.closes, early)
                if closes > session.opens:
                    spans.append(Span(self._moment(day, session.opens), self._moment(day, closes)))
        return tuple(sorted(spans))

    def _moment(self, day: date, clock: str) -> datetime:
        return datetime.combine(day, time.fromisoformat(clock), tzinfo=self._zone).astimezone(UTC)


def _nyse() -> Calendar:
    return Calendar(zone=NYSE_ZONE, sessions=(Session(opens=NYSE_OPEN, closes=NYSE_CLOSE),))


def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _seconds(clock: str) -> float:
    at = time.fromisoformat(clock)
    return 3600 * at.hour + 60 * at.minute + at.second
