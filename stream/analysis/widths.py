"""When bars begin and end: whole multiples of their width, or a market's sessions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import Field, field_validator, model_validator

from contract.config import Config

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Times

DAY_S: Final = 86_400
_QUARTER_MS: Final = 15 * 60_000
_NOWHERE: Final = -1


class SessionConfig(Config):
    """When a market is open: the bar of a day is that of its session, and begins when it opens."""

    timezone: str = Field(description="of the market, such as America/New_York")
    opens: time = Field(description="by the market's clock, a whole quarter of an hour")
    closes: time = Field(description="by the market's clock, a whole quarter of an hour, later on the same day")

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as exc:
            raise ValueError(f"{name!r} is no time zone: allowed are those of the IANA, such as Europe/Berlin") from exc
        return name

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        for at in (self.opens, self.closes):
            if at.tzinfo or at.minute % 15 or at.second or at.microsecond:
                raise ValueError(f"{at} is no whole quarter of an hour by the market's clock")
        if self.closes <= self.opens:
            raise ValueError(f"closes {self.closes} is not after opens {self.opens}")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Which bar each time belongs to: `begin_ms` and `end_ms` int64 [n], both below 0 where it belongs to none."""

    begin_ms: Times
    end_ms: Times


def spans(at_ms: Times, width_s: int, session: SessionConfig | None) -> Spans:
    """The bars of a width in which times lie; a day's is the session, where there is one."""
    if width_s == DAY_S and session is not None:
        return _sessions(at_ms, session)
    begin_ms = at_ms // (width_s * 1000) * (width_s * 1000)
    return Spans(begin_ms, begin_ms + width_s * 1000)


def _sessions(at_ms: Times, session: SessionConfig) -> Spans:
    # Clocks are set at whole quarters of an hour, everywhere and always: few of them are looked up.
    quarters, place = np.unique(at_ms // _QUARTER_MS, return_inverse=True)
    found: NDArray[np.int64] = np.array(
        [_session(int(quarter) * _QUARTER_MS, session) for quarter in quarters], np.int64
    ).reshape(-1, 2)
    return Spans(found[place, 0], found[place, 1])


def _session(at_ms: int, session: SessionConfig) -> tuple[int, int]:
    zone = ZoneInfo(session.timezone)
    day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(zone).date()
    begin, end = (round(datetime.combine(day, at, zone).timestamp() * 1000) for at in (session.opens, session.closes))
    return (begin, end) if begin <= at_ms < end else (_NOWHERE, _NOWHERE)
