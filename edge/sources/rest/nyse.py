"""The New York Stock Exchange's days, by its Rule 7.2 and published calendars: when it is closed or closes early."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import Final

NYSE_ZONE: Final = "America/New_York"
NYSE_OPEN: Final = "09:30"
NYSE_CLOSE: Final = "16:00"
_EARLY_CLOSE: Final = "13:00"
_MONDAY, _THURSDAY, _SATURDAY, _SUNDAY = 0, 3, 5, 6
_JUNETEENTH_SINCE: Final = 2022
# Days of mourning and the like are announced, no rule gives them.
_ANNOUNCED: Final = frozenset({date(2018, 12, 5), date(2025, 1, 9)})


@lru_cache(maxsize=8)
def nyse_holidays(year: int) -> frozenset[date]:
    """The weekdays of a year without a session."""
    days = {
        _nth(year, 1, _MONDAY, 3),  # Martin Luther King, Jr.
        _nth(year, 2, _MONDAY, 3),  # Washington's birthday
        easter(year) - timedelta(days=2),  # Good Friday
        _nth(year, 6, _MONDAY, 1) - timedelta(days=7),  # Memorial Day: the last Monday of May
        _observed(date(year, 7, 4)),
        _nth(year, 9, _MONDAY, 1),  # Labor Day
        _thanksgiving(year),
        _observed(date(year, 12, 25)),
    }
    if date(year, 1, 1).weekday() != _SATURDAY:
        # On a Saturday it would fall on the last day of the business year, and is not observed.
        days.add(_observed(date(year, 1, 1)))
    if year >= _JUNETEENTH_SINCE:
        days.add(_observed(date(year, 6, 19)))
    return frozenset(days | {day for day in _ANNOUNCED if day.year == year})


def nyse_early_close(day: date) -> str | None:
    """13:00 on the days that end then: before Independence Day, after Thanksgiving, and on Christmas Eve."""
    eves = (date(day.year, 7, 3), date(day.year, 12, 24))
    is_eve = day in eves and day.weekday() <= _THURSDAY
    return _EARLY_CLOSE if is_eve or day == _thanksgiving(day.year) + timedelta(days=1) else None


def easter(year: int) -> date:
    """Easter Sunday in the Gregorian calendar, by the computus of Meeus, Jones and Butcher."""
    golden, (century, rest) = year % 19, divmod(year, 100)
    leap_centuries, century_rest = divmod(century, 4)
    correction = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * golden + century - leap_centuries - correction + 15) % 30
    leap_years, year_rest = divmod(rest, 4)
    to_sunday = (32 + 2 * century_rest + 2 * leap_years - epact - year_rest) % 7
    late = (golden + 11 * epact + 22 * to_sunday) // 451
    month, day = divmod(epact + to_sunday - 7 * late + 114, 31)
    return date(year, month, day + 1)


def _nth(year: int, month: int, weekday: int, n: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def _thanksgiving(year: int) -> date:
    return _nth(year, 11, _THURSDAY, 4)


def _observed(day: date) -> date:
    """The weekday on which a fixed holiday is kept: Saturday's on Friday, Sunday's on Monday."""
    shift = {_SATURDAY: -1, _SUNDAY: 1}.get(day.weekday(), 0)
    return day + timedelta(days=shift)
