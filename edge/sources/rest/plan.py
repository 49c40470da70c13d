"""The arithmetic of requests against limits, before the first one is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.sources.rest.budget import MARGIN_S
from edge.sources.rest.hours import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.sources.rest.api import Limits

_MONTH_DAYS: Final = 31
_LONGEST_TIMEOUT_S: Final = 600  # SourceConfig's
# Of a poll's time-out: what is left is for the error to say which URL it was.
BUDGET: Final = 0.9


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for: `per_poll` requests at most each `interval_s`, for `open_s` of a day's seconds.

    In the rest of the day it is asked each `closed_interval_s`, or not at all.
    """

    per_poll: int
    interval_s: float
    timeout_s: float
    open_s: float = DAY_S
    closed_interval_s: float | None = None

    @property
    def per_day(self) -> int:
        """Requests of a day, at most."""
        polls = math.ceil(self.open_s / self.interval_s)
        if self.closed_interval_s is not None:
            polls += math.ceil((DAY_S - self.open_s) / self.closed_interval_s)
        return polls * self.per_poll

    def per(self, seconds: float) -> float:
        """Requests of such a time on average, while open."""
        return self.per_poll * seconds / self.interval_s


def check(load: Load, limits: Limits) -> None:
    """Raises ValueError, with the arithmetic, where the load does not fit the limits."""
    for limit, seconds, unit in _rates(limits):
        if load.per(seconds) > limit:
            least_s = load.per_poll * seconds / limit
            _refuse(load, f"{load.per(seconds):,.4g} {unit}", f"{limit:,} {unit}", least_s)
        # What a poll asks for beyond a limit has to wait for the next second, minute or hour, within the poll.
        waits_s = (math.ceil(load.per_poll / limit) - 1) * (seconds + MARGIN_S)
        if waits_s > load.timeout_s * BUDGET:
            least_s = math.ceil(waits_s / BUDGET) + 1
            raise ValueError(
                f"{load.per_poll} requests in one poll, {limit:,} {unit} allowed: the last one waits {waits_s:,.4g} s, "
                f"and timeout_s is {load.timeout_s:g}; allowed: requests_per_poll up to {limit:,}"
                + (f", or timeout_s of {least_s} or more" if least_s <= _LONGEST_TIMEOUT_S else "")
            )
    for quota, days, unit in ((limits.per_day, 1, "day"), (limits.per_month, _MONTH_DAYS, "month")):
        if quota is not None and load.per_day * days > quota:
            _refuse(load, f"{load.per_day * days:,} a {unit}", f"{quota:,} a {unit}", _least_s(load, quota / days))


def describe(load: Load, limits: Limits) -> str:
    """The same arithmetic as a line for people."""
    # What may go out in a second is kept to, but of a poll each minute no average of a second says anything.
    rates = [f"{load.per(seconds):.4g} of {limit:,} {unit}" for limit, seconds, unit in _rates(limits) if seconds > 1]
    day = f"{load.per_day:,} a day" + ("" if limits.per_day is None else f" of {limits.per_day:,} ({limits.day_zone})")
    month = [] if limits.per_month is None else [f"{load.per_day * _MONTH_DAYS:,} a month of {limits.per_month:,}"]
    return ", ".join([f"{load.per_poll} each {load.interval_s:g} s", *rates, day, *month])


def _rates(limits: Limits) -> Iterator[tuple[int, int, str]]:
    for limit, seconds, unit in (
        (limits.per_second, 1, "a second"),
        (limits.per_minute, 60, "a minute"),
        (limits.per_hour, 3600, "an hour"),
    ):
        if limit is not None:
            yield limit, seconds, unit


def _least_s(load: Load, per_day: float) -> float | None:
    """The least interval that fits a day's requests; None if there is none for what is asked while closed."""
    closed_polls = 0 if load.closed_interval_s is None else math.ceil((DAY_S - load.open_s) / load.closed_interval_s)
    polls = math.floor(per_day / load.per_poll) - closed_polls
    return load.open_s / polls if polls > 0 else None


def _refuse(load: Load, asked: str, allowed: str, least_s: float | None) -> None:
    requests = f"{load.per_poll} request{'s' if load.per_poll > 1 else ''}"
    ways = [] if least_s is None or least_s > DAY_S else [f"interval_s of {_rounded_up(least_s)} or more"]
    ways += ["fewer symbols", "requests_per_poll, which asks for them in turn"] if load.per_poll > 1 else []
    ways += ["a longer closed_interval_s"] if load.closed_interval_s is not None else []
    raise ValueError(
        f"{requests} each {load.interval_s:g} s: {asked}, and the provider's limit is {allowed}; "
        f"allowed: {', '.join([*ways, 'other limits, where your plan has them'])}"
    )


def _rounded_up(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000) / 1000:.3f}".rstrip("0").rstrip(".")
